// Signs what our server has sent anew, by the Standard Webhooks' own library for Node: the signature has to be the same.
// A signature is verified within five minutes; what the tests recorded is older, and so is signed again instead.
"use strict";

const fs = require("fs");
const path = require("path");

const [home, record] = process.argv.slice(2);
const { Webhook } = require(path.join(home, "node_modules", "standardwebhooks"));

let count = 0;
for (const line of fs.readFileSync(record, "utf8").split("\n").filter(Boolean)) {
  const { secret, headers, body } = JSON.parse(line);
  const at = new Date(Number(headers["webhook-timestamp"]) * 1000);
  const signed = new Webhook(secret).sign(headers["webhook-id"], at, body);
  const found = headers["webhook-signature"].split(" ");
  if (!found.includes(signed)) {
    console.error(`${headers["webhook-id"]}: expected ${signed}, found ${found}`);
    process.exit(1);
  }
  count += 1;
}
if (count === 0) {
  console.error("no webhook was recorded");
  process.exit(1);
}
console.log(`${count} webhooks are signed as standardwebhooks for Node signs them`);
