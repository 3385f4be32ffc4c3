declare const require: (name: string) => any;
declare const process: { env: Record<string, string> };

const http = require("node:http");
const app: string = "node-npm-build";

http
  .createServer((_request: unknown, response: { end(text: string): void }) => response.end(`corpus ${app}\n`))
  .listen(Number(process.env.PORT), process.env.HOST);
