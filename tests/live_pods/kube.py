"""An API server and a kubelet in one, over TLS. The API server answers any client with its token; the kubelet refuses, and
repeats in its refusal what it was shown. Prints where it listens, then each request.

Usage: kube.py CERTIFICATE KEY PODS.json"""

import json
import ssl
import sys
from http.server import ThreadingHTTPServer

from server import Handler, serve

certificate, key, pods = sys.argv[1:]
NO_SERVICES = {"kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": []}


class Kube(Handler):
    def do_GET(self):
        shown = self.headers.get("Authorization", "")
        print(self.path, flush=True)
        if not self.path.startswith("/api/v1/") or shown != "Bearer token-for-the-api":
            self.answer(403, {"kind": "Status", "code": 403, "message": f"forbidden with {shown}"})
        elif "watch=1" in self.path:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.rfile.read(1)
        elif self.path.startswith("/api/v1/pods"):
            with open(pods) as file:
                self.answer(200, json.load(file))
        else:
            self.answer(200, NO_SERVICES)


server = ThreadingHTTPServer(("127.0.0.1", 0), Kube)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
serve(server)
