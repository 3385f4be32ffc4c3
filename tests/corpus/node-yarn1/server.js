const http = require("node:http");
const local = require("local");

http
  .createServer((request, response) => response.end(`corpus ${local}\n`))
  .listen(Number(process.env.PORT), process.env.HOST);
