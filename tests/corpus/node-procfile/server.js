const http = require("node:http");
http
  .createServer((request, response) => response.end("corpus node-procfile\n"))
  .listen(Number(process.env.PORT), process.env.HOST);
