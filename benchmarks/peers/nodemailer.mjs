// nodemailer as its manual says for bulk mail: one pool, and a next letter whenever it is idle. Reads job.json in the
// working directory, prints one line of JSON. The report is read once and handed over as a buffer.
import { readFileSync } from "node:fs";
import nodemailer from "nodemailer";

const job = JSON.parse(readFileSync("job.json", "utf8"));
const report = job.report ? readFileSync(job.report) : null;
const pool = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  pool: true,
  maxConnections: job.connections,
  maxMessages: Infinity,
  ignoreTLS: true,
});

function letter(n) {
  const fill = (text) => text.replaceAll("{number}", String(n).padStart(7, "0"));
  return {
    envelope: { from: job.return_path, to: fill(job.to).replace(/^.*<|>$/g, "") },
    from: job.sender,
    to: fill(job.to),
    subject: fill(job.subject),
    text: fill(job.text),
    html: fill(job.html),
    headers: Object.fromEntries(Object.entries(job.headers).map(([name, text]) => [name, fill(text)])),
    textEncoding: "quoted-printable",
    attachments: report ? [{ filename: job.report, content: report }] : [],
  };
}

const began = process.hrtime.bigint();
const before = process.cpuUsage();
let next = 1;
let accepted = 0;

function end() {
  const cpu = process.cpuUsage(before);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log(JSON.stringify({ letters: accepted, seconds, cpu: (cpu.user + cpu.system) / 1e6 }));
  pool.close();
}

pool.on("idle", () => {
  while (next <= job.letters && pool.isIdle()) {
    pool.sendMail(letter(next++), (error) => {
      if (error) {
        console.error(error);
        process.exit(1);
      }
      if (++accepted === job.letters) end();
    });
  }
});
