/* Reads messages with the npm package mailparser: one in base64 on each line of stdin, one reading as JSON on each line
   of stdout. Started by tests/readers.py. */
"use strict";
const readline = require("node:readline");
const { MailParser } = require("mailparser");

function tree(node) {
    const children = (node.children || []).map(tree);
    return children.length ? [node.contentType, children] : [node.contentType];
}

function people(field) {
    return (field ? field.value : []).map((mailbox) => [mailbox.name, mailbox.address]);
}

function read(octets) {
    return new Promise((resolve, reject) => {
        const parser = new MailParser({ skipImageLinks: true, skipTextToHtml: true });
        const found = { files: [] };
        parser.on("headers", (headers) => {
            found.subject = headers.get("subject") || "";
            found.from = people(headers.get("from"));
            found.to = people(headers.get("to"));
        });
        parser.on("data", (part) => {
            if (part.type === "text") {
                found.text = part.text || "";
                found.html = part.html || "";
                return;
            }
            const pieces = [];
            part.content.on("data", (piece) => pieces.push(piece));
            part.content.on("end", () => {
                const content = Buffer.concat(pieces).toString("base64");
                found.files.push([part.filename || "", part.contentType, part.cid || "", content]);
                part.release();
            });
        });
        parser.on("error", reject);
        parser.on("end", () => resolve({ ...found, tree: tree(parser.tree) }));
        parser.end(octets);
    });
}

(async () => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        console.log(JSON.stringify(await read(Buffer.from(line, "base64"))));
    }
})();
