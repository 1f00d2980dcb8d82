"""Other systems that cannot run here, as small servers: WeChat's code2session, and an OpenID provider."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey


class Provider:
    """What it answers can be changed while it runs."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, parameters={"kid": "one", "use": "sig", "alg": "RS256"})
        self.signs = self.key  # what really signs
        self.claims: dict[str, Any] = {}  # over what is right
        self.codes: dict[str, dict[str, str]] = {}  # code -> what the browser was sent with
        self.openids = {"good": "wx-lin", "other": "wx-wei"}
        self.url = ""

    def allow(self, address: str, code: str = "c1") -> str:
        """What the browser comes back with after somebody has agreed: the code and the state."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        self.codes[code] = asked
        return asked["state"]

    def token(self, form: dict[str, str], login: str) -> dict[str, Any] | None:
        asked = self.codes.pop(form.get("code", ""), None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if asked is None or login != "Basic " + base64.b64encode(b"maskwatch:hush").decode() \
                or asked["code_challenge"] != proof.rstrip(b"=").decode():  # fmt: skip
            return None
        now = int(time.time())
        claims = {"iss": self.url, "aud": "maskwatch", "sub": "s-1", "exp": now + 300, "iat": now,
                  "nonce": asked["nonce"], "preferred_username": "mei", "name": "Mei"} | self.claims
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.signs)
        return {"access_token": "a", "token_type": "Bearer", "id_token": signed}


@contextmanager
def running() -> Iterator[Provider]:
    provider = Provider()

    class Answer(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def _send(self, content: Any, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/sns/jscode2session":
                openid = provider.openids.pop(query["js_code"], None)  # a code is good once
                right = (query["appid"], query["secret"]) == ("wx1", "hush")
                self._send({"openid": openid, "session_key": "k"} if openid and right
                           else {"errcode": 40029, "errmsg": "invalid code"})
            elif parts.path == "/.well-known/openid-configuration":
                self._send({"issuer": provider.url, "authorization_endpoint": f"{provider.url}/authorize",
                            "token_endpoint": f"{provider.url}/token", "jwks_uri": f"{provider.url}/keys"})
            elif parts.path == "/keys":
                self._send({"keys": [provider.key.as_dict(private=False)]})
            else:
                self._send({}, 404)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            told = provider.token({name: values[0] for name, values in form.items()},
                                  self.headers.get("authorization", ""))
            self._send(told or {"error": "invalid_grant"}, 200 if told else 400)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
