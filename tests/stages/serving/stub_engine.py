"""A program in an engine's place: it computes nothing, keeps what it was asked, and fails when it is told to."""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        pass

    def _begin(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()

    def do_GET(self) -> None:
        self._begin(200, "application/json")
        self.wfile.write(b'{"status": "ok"}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open("asked.json", "w") as file:
            json.dump(body, file)
        said = "".join(part.get("text", "") for part in body["messages"][-1]["content"])
        if said == "die":
            os._exit(3)
        if said == "never":
            time.sleep(60)
        if said == "fail":
            self._begin(500, "text/plain")
            self.wfile.write(b"Traceback: /secret/path")
            return
        self._begin(200, "text/event-stream")
        self._event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
        for word in ("I ", "was ", "asked: ", said) if said != "say nothing" else ():
            self._event({"choices": [{"index": 0, "delta": {"content": word}}], "model": "model@main"})
            if said == "die late":
                os._exit(3)
            if said == "fail late":
                self._event({"error": "out of memory at /secret/path"})
                return
            time.sleep(0.5 if said == "slowly" else 0)
        usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})

    def _event(self, value: Any) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()


def main() -> None:
    print("stub engine of", os.path.realpath("model"), flush=True)
    if "--broken" in sys.argv:
        sys.exit("no such weights")
    if "--wait-for-go" in sys.argv:
        while not os.path.exists("go"):
            time.sleep(0.05)
    if "--slow-second" in sys.argv:
        with open("starts", "a+") as file:
            file.write("x")
            file.seek(0)
            time.sleep(60 if file.read() == "xx" else 0)
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    server = ThreadingUnixStreamServer("engine.sock", Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
