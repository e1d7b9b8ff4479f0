"""As much of a visdom server as its client needs to draw lines, or one that misbehaves.

python tests/torture/stand_in.py PORT good|silent|refusing|nonsense
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    way = 'good'

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get('Content-Length') or 0)) or b'{}')
        self.received(body)
        if self.way == 'silent':
            time.sleep(3600)
        self.send_response(500 if self.way == 'refusing' else 200)
        if self.way == 'nonsense':
            answer = b'\xff<html>' * 1000
        else:
            answer = b'false' if self.path.endswith('win_exists') else str(body.get('win', 'window')).encode()
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def received(self, body):
        pass

    def log_message(self, *_):
        pass


if __name__ == '__main__':
    Handler.way = sys.argv[2]
    ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
