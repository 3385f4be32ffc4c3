import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from itsdangerous import Signer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(Signer("key").unsign(Signer("key").sign("corpus python-pyproject\n")))


def main():
    HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
