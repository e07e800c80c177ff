"""The cart of the shop: GET /cart/ID makes two queries, GET /broken one for a table that does not exist."""

import sys
from http.server import HTTPServer

import pymysql

from server import Handler, serve

connection = None


def query(text):
    global connection
    if connection is None:
        connection = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", database="shop", autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


class Cart(Handler):
    def do_GET(self):
        try:
            if self.path == "/broken":
                query("SELECT 1 FROM nothing")
            items = query(f"SELECT item FROM cart WHERE id = {int(self.path.rsplit('/')[-1])}")
            prices = query("SELECT price FROM price")
            self.answer(200, {"items": items, "prices": prices})
        except pymysql.err.Error as error:
            self.answer(500, {"error": str(error)})


serve(HTTPServer(("127.0.0.1", 0), Cart))
