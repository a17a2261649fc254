# A client of credentials-fetcher's interface, of gRPC's own core and of messages that
# protoc makes: client.py DIRECTORY-OF-MESSAGES SOCKET. A line of standard input is a call,
# ["METHOD", {REQUEST}]; a line of standard output is its reply or its failure.
import json
import sys

sys.path.insert(0, sys.argv[1])

import grpc
from google.protobuf import json_format, symbol_database

import credentialsfetcher_pb2

service = credentialsfetcher_pb2.DESCRIPTOR.services_by_name["CredentialsFetcherService"]
messages = symbol_database.Default()

with grpc.insecure_channel("unix:" + sys.argv[2]) as channel:
    for line in sys.stdin:
        name, request = json.loads(line)
        method = service.methods_by_name[name]
        kind = messages.GetPrototype(method.input_type)
        call = channel.unary_unary(
            f"/{service.full_name}/{name}",
            request_serializer=kind.SerializeToString,
            response_deserializer=messages.GetPrototype(method.output_type).FromString,
        )
        try:
            reply = call(json_format.ParseDict(request, kind()), timeout=30)
            answer = json_format.MessageToDict(reply, preserving_proto_field_name=True)
        except grpc.RpcError as e:
            answer = {"code": e.code().name, "details": e.details()}
        print(json.dumps(answer), flush=True)
