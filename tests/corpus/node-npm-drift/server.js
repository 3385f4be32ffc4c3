const http = require("node:http");
const ms = require("ms");

http
  .createServer((request, response) => response.end(`corpus node-npm-drift\n`.slice(0, ms("1s"))))
  .listen(Number(process.env.PORT), process.env.HOST);
