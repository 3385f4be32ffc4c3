const fs = require("node:fs");
const http = require("node:http");

const name = fs.readFileSync("installed", "utf8");
if (name !== fs.readFileSync("started", "utf8")) throw new Error("a hook did not run");

http
  .createServer((request, response) => response.end(`${process.env.GREETING} ${name}\n`))
  .listen(Number(process.env.PORT), process.env.HOST);
