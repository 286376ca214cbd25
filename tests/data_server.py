"""A server on this machine that stands for the mirrors of data sets."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Serves folders of bytes by HTTP: `pages['/a/name.gz'] = data`; counts the files sent."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.reply(body=False)

            def do_GET(self) -> None:
                server.requests.append(self.path)
                self.reply(body=True)

            def reply(self, body: bool) -> None:
                page = server.pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                if body:
                    self.wfile.write(page or b"")

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def mirror(self, name: str, files: dict[str, bytes]) -> str:
        """Serve the files in a folder of that name; its url."""
        self.pages |= {f"/{name}/{file}": data for file, data in files.items()}
        return f"http://127.0.0.1:{self.http.server_port}/{name}/"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
