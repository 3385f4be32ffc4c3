// Serves the pages that the workspace brings: `pages.json` in the folder where it is started.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

type Pages = Record<string, string>;

const pages = JSON.parse(readFileSync('pages.json', 'utf8')) as Pages;
const port = Number(process.env.PORT ?? 3000);

const server = createServer((request, response) => {
  const page: string | undefined = pages[request.url ?? '/'];
  response.writeHead(page === undefined ? 404 : 200, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(page ?? 'not found');
});
server.listen(port, process.env.HOST ?? '0.0.0.0');

process.on('SIGTERM', () => server.close());
