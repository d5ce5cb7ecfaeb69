"""A client of any Hero service that knows nothing but its socket: methods, params and results are those of the document
that the service itself serves. Python's standard library is all that it needs.

    generic_client.py SOCKET METHOD [PARAMS]     calls METHOD; absent params are sent as null; the result goes to stdout
"""

import http.client
import json
import socket
import sys


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class RpcError(Exception):
    pass


class Service:
    """A service, with one function for each of its methods."""

    def __init__(self, path):
        self.path = path
        manifest = self.request("GET", "/.well-known/heroservice.json")
        assert manifest["protocol"] == "openrpc", manifest
        self.document = self.request("GET", "/openrpc.json")
        assert self.document == self.call("rpc.discover", {})
        self.methods = {method["name"]: method for method in self.document["methods"]}

    def request(self, verb, path, body=None):
        connection = Connection(self.path)
        headers = {"content-type": "application/json"} if body else {}
        connection.request(verb, path, body, headers)
        answer = connection.getresponse()
        assert answer.status == 200, (answer.status, answer.read())
        return json.loads(answer.read())

    def call(self, method, params):
        call = {"jsonrpc": "2.0", "id": "a", "method": method, "params": params}
        answer = self.request("POST", "/rpc", json.dumps(call))
        assert answer["jsonrpc"] == "2.0" and answer["id"] == "a", answer
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def __getitem__(self, name):
        method = self.methods[name]

        def function(**given):
            known = {param["name"]: param for param in method["params"]}
            unknown = set(given) - set(known)
            assert not unknown, unknown
            params = {}
            for name, param in known.items():
                if name in given or not param.get("required"):
                    params[name] = given.get(name)
                    self.validate(params[name], param["schema"], name)
                else:
                    raise TypeError(f"param {name} is missing")
            result = self.call(method["name"], params)
            self.validate(result, method["result"]["schema"], "result")
            return result

        return function

    def validate(self, value, schema, where):
        """As much of JSON Schema as says whether a value has the shape that a generated type would have."""
        if "$ref" in schema:
            target = self.document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            return self.validate(value, target, where)
        types = schema.get("type")
        if types is not None:
            types = types if isinstance(types, list) else [types]
            python = {
                "null": type(None), "boolean": bool, "integer": int, "number": (int, float), "string": str,
                "array": list, "object": dict,
            }
            fits = [name for name in types if isinstance(value, python[name])]
            # Python's booleans are integers.
            assert fits and (not isinstance(value, bool) or "boolean" in types), (where, value, types)
        if isinstance(value, dict):
            properties = schema.get("properties", {})
            for name in schema.get("required", []):
                assert name in value, (where, name)
            more = schema.get("additionalProperties", True)
            for name, inner in value.items():
                if name in properties:
                    self.validate(inner, properties[name], f"{where}.{name}")
                elif isinstance(more, dict):
                    self.validate(inner, more, f"{where}.{name}")
                else:
                    assert more, (where, name)
        if isinstance(value, list):
            for inner in value:
                self.validate(inner, schema.get("items", {}), f"{where}[]")


def main():
    path, method, *params = sys.argv[1:]
    try:
        result = Service(path)[method](**json.loads(params[0] if params else "{}"))
    except RpcError as error:
        print(json.dumps(error.args[0]))
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
