import ms from "ms";

Bun.serve({
  port: Number(process.env.PORT),
  hostname: process.env.HOST,
  fetch: () => new Response("corpus node-bun\n".slice(0, ms("1s"))),
});
