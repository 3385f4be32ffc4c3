const http = require("node:http");
const greeting = require("greeting");
const ms = require("ms");

http
  .createServer((request, response) => response.end(`corpus ${greeting}\n`.slice(0, ms("1s"))))
  .listen(Number(process.env.PORT), process.env.HOST);
