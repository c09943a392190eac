/* Verifies DKIM signatures with the npm package mailauth: one message in base64 on each line of stdin, what each of its
   signatures came to as JSON on each line of stdout. The only argument holds the records that there are, as JSON by
   name. Started by tests/judges.py. */
"use strict";
const readline = require("node:readline");
const { dkimVerify } = require("mailauth/lib/dkim/verify");

const records = JSON.parse(process.argv[2]);

async function resolver(name, kind) {
    if (kind === "TXT" && name in records) {
        return [[records[name]]];
    }
    throw Object.assign(new Error(`there is no ${name}`), { code: "ENOTFOUND" });
}

(async () => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const { results } = await dkimVerify(Buffer.from(line, "base64"), { resolver });
        console.log(JSON.stringify(results.map((each) => [each.selector || "", each.status.result])));
    }
})();
