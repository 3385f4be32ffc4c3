'use strict';

const express = require('express');
const { greeting } = require('./greeting');

const app = express();
app.get('/', (request, response) => response.type('text/plain').send(`${greeting}\n`));
app.get('/health', (request, response) => response.sendStatus(204));

const { PORT = 3000, HOST = '127.0.0.1' } = process.env;
const server = app.listen(PORT, HOST, () => console.log(`listening on ${HOST}:${PORT}`));

process.on('SIGTERM', () => server.close(() => process.exit(0)));
