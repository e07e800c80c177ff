"""The cart of the shop: GET /cart/ID makes two queries, GET /broken one for a table that does not exist."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import pymysql

connection = None


def query(text):
    global connection
    if connection is None:
        connection = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", database="shop", autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


class Cart(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        try:
            if self.path == "/broken":
                query("SELECT 1 FROM nothing")
            items = query(f"SELECT item FROM cart WHERE id = {int(self.path.rsplit('/')[-1])}")
            prices = query("SELECT price FROM price")
            self.answer(200, {"items": items, "prices": prices})
        except pymysql.err.Error as error:
            self.answer(500, {"error": str(error)})

    def answer(self, status, what):
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Cart)
print(json.dumps({"listening": f"127.0.0.1:{server.server_port}"}), flush=True)
server.serve_forever()
