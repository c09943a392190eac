/* The npm package smtp-server, keeping each message as one line of JSON. Started by tests/servers/node.py.

     node capture.js '{"port": 2525, "certificate": "file.pem", "mail": "mail.jsonl", "login": {…}}'

   With `login` ({mechanisms, user, secret}) nobody gets in who does not give that user and secret; or, with `tokens`
   in place of `secret`, one of the tokens in that file. With `clients` (an authority's certificate) it asks for one. */
"use strict";
const fs = require("node:fs");
const { SMTPServer } = require("smtp-server");

const settings = JSON.parse(process.argv[2]);
const login = settings.login;
const pem = fs.readFileSync(settings.certificate);
const mail = fs.openSync(settings.mail, "a");
let count = 0;

const REFUSED_TOKEN = { status: "401", schemes: "bearer mac", scope: "https://mail.example.org/" };

function onAuth(auth, session, callback) {
    const known = auth.username === login.user;
    if (auth.method === "XOAUTH2") {
        const good = login.tokens ? fs.readFileSync(login.tokens, "utf8").trim().split("\n") : [login.secret];
        if (known && good.includes(auth.accessToken)) return callback(null, { user: login.user });
        return callback(null, { data: REFUSED_TOKEN });
    }
    const good = auth.method === "CRAM-MD5" ? auth.validatePassword(login.secret) : auth.password === login.secret;
    if (known && good) return callback(null, { user: login.user });
    return callback(new Error("Invalid username or password"));
}

function onData(stream, session, callback) {
    const pieces = [];
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("end", () => {
        const { mailFrom, rcptTo } = session.envelope;
        const number = `node-${++count}`;
        const kept = {
            mail_from: mailFrom.address,
            rcpt_tos: rcptTo.map((path) => path.address),
            octets: Buffer.concat(pieces).toString("base64"),
            queue_id: number,
            user: session.user || "",
        };
        fs.writeSync(mail, JSON.stringify(kept) + "\n");
        callback(null, `2.0.0 queued as ${number}`);
    });
}

const server = new SMTPServer({
    key: pem,
    cert: pem,
    authMethods: login ? login.mechanisms : [],
    authOptional: !login,
    ...(settings.clients ? { ca: fs.readFileSync(settings.clients), requestCert: true, rejectUnauthorized: true } : {}),
    disabledCommands: login ? [] : ["AUTH"],
    disableReverseLookup: true,
    size: 1000000,
    onAuth,
    onData,
});
server.on("error", (error) => console.error(error.message));
server.listen(settings.port, "127.0.0.1");
