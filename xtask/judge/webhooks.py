"""Signs what our server has sent anew, by the Standard Webhooks' own library for Python: the signature has to be the same.

A signature is verified within five minutes; what the tests recorded is older, and so is signed again instead."""

import datetime
import json
import sys

from standardwebhooks.webhooks import Webhook


def main(path):
    count = 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            sent = json.loads(line)
            headers = sent["headers"]
            at = datetime.datetime.fromtimestamp(int(headers["webhook-timestamp"]), datetime.timezone.utc)
            signed = Webhook(sent["secret"]).sign(headers["webhook-id"], at, sent["body"])
            found = headers["webhook-signature"].split(" ")
            if signed not in found:
                sys.exit(f"{headers['webhook-id']}: expected {signed}, found {found}")
            count += 1
    if count == 0:
        sys.exit("no webhook was recorded")
    print(f"{count} webhooks are signed as standardwebhooks for Python signs them")


main(sys.argv[1])
