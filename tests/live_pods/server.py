"""What the servers of these tests have in common."""

import json
from http.server import BaseHTTPRequestHandler


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, what):
        """Bytes as they are, all else as JSON."""
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(server):
    """Prints its address as JSON, and serves until it is ended."""
    print(json.dumps({"listening": f"127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()
