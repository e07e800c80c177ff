"""The frontend of the shop: GET /index.html is answered here, everything else is passed on to the cart."""

import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

cart = http.client.HTTPConnection(sys.argv[1])


class Frontend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/index.html":
            return self.answer(200, b"<h1>Shop</h1>")
        cart.request("GET", self.path)
        response = cart.getresponse()
        self.answer(response.status, response.read())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Frontend)
print(json.dumps({"listening": f"127.0.0.1:{server.server_port}"}), flush=True)
server.serve_forever()
