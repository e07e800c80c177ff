"""The frontend of the shop: GET /index.html is answered here, everything else is passed on to the cart."""

import http.client
import sys
from http.server import HTTPServer

from server import Handler, serve

cart = http.client.HTTPConnection(sys.argv[1])


class Frontend(Handler):
    def do_GET(self):
        if self.path == "/index.html":
            return self.answer(200, b"<h1>Shop</h1>")
        cart.request("GET", self.path)
        response = cart.getresponse()
        self.answer(response.status, response.read())


serve(HTTPServer(("127.0.0.1", 0), Frontend))
