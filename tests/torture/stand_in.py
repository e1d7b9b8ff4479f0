"""Serve as much of visdom as its client needs to draw lines, or misbehave.

python tests/torture/stand_in.py PORT good|silent|refusing|nonsense
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers every request. way: 'good', 'silent' (never answers), 'refusing' (status 500) or 'nonsense' (no JSON)."""

    way = 'good'

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get('Content-Length') or 0)) or b'{}')
        self.received(body)
        if self.way == 'silent':
            time.sleep(3600)
        self.send_response(500 if self.way == 'refusing' else 200)
        answer = self.answer(body)
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def answer(self, body: dict) -> bytes:
        """Return the body of the answer: the name of the window that was drawn, if it is a good one."""
        if self.way == 'nonsense':
            return b'\xff<html>' * 1000
        return b'false' if self.path.endswith('win_exists') else str(body.get('win', 'window')).encode()

    def received(self, body: dict) -> None:
        """Do nothing with a request; tests override this."""

    def log_message(self, *_) -> None:
        """Print nothing."""


if __name__ == '__main__':
    Handler.way = sys.argv[2]
    ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
