"""A life of a paying customer, by the official Python SDK against the double: every call answers what the SDK's user
expects, and every webhook is verified by the SDK's own check of signatures.

    python life.py <address> <key>
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import monotonic, sleep, time

import stripe

address, key = sys.argv[1:]
client = stripe.StripeClient(
    key, base_addresses={"api": address}, max_network_retries=0
).v1

received = []


class Receiver(BaseHTTPRequestHandler):
    """Takes webhooks, and keeps what arrived."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        received.append((body, self.headers["Stripe-Signature"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format, *args):
        pass


def same(one, other):
    assert one == other, f"{one!r} is not {other!r}"


receiver = HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
endpoint = client.webhook_endpoints.create(
    {
        "url": f"http://127.0.0.1:{receiver.server_port}/hook",
        "enabled_events": ["*"],
    }
)

# What is sold.
product = client.products.create({"name": "Professional", "metadata": {"plan": "professional"}})
product = client.products.update(product.id, {"description": "For studios"})
same(client.products.retrieve(product.id).description, "For studios")


def price(amount, interval, of=product):
    return client.prices.create(
        {
            "product": of.id,
            "currency": "usd",
            "unit_amount": amount,
            "recurring": {"interval": interval},
        }
    )


monthly, yearly = price(2900, "month"), price(29000, "year")
extra = price(500, "month", client.products.create({"name": "Archive"}))
same(len(client.prices.list({"product": product.id}).data), 2)
same(client.prices.update(monthly.id, {"nickname": "Monthly"}).nickname, "Monthly")

# Who buys it.
customer = client.customers.create(
    {"email": "ada@example.test", "name": "Ada", "metadata": {"workspace": "1"}}
)
client.customers.update(customer.id, {"name": "Ada Lovelace", "phone": "+15550100"})
same(client.customers.retrieve(customer.id).name, "Ada Lovelace")
card = client.payment_methods.attach("pm_card_visa", {"customer": customer.id})
client.customers.update(
    customer.id, {"invoice_settings": {"default_payment_method": card.id}}
)
same(len(client.payment_methods.list({"customer": customer.id}).data), 1)
setup = client.setup_intents.create(
    {"customer": customer.id, "allowed_payment_method_types": ["card"]}
)
same(client.setup_intents.retrieve(setup.id).status, "requires_payment_method")

# A subscription of two items.
subscription = client.subscriptions.create(
    {
        "customer": customer.id,
        "items": [{"price": monthly.id}, {"price": extra.id, "quantity": 3}],
        "payment_behavior": "default_incomplete",
        "expand": ["latest_invoice"],
    },
    {"idempotency_key": "python-subscribes"},
)
same(subscription.status, "incomplete")
invoice = client.invoices.pay(subscription.latest_invoice.id)
same((invoice.status, invoice.amount_paid), ("paid", 4400))
subscription = client.subscriptions.retrieve(subscription.id)
same(subscription.status, "active")
first, second = client.subscription_items.list({"subscription": subscription.id}).data
preview = client.invoices.create_preview(
    {
        "customer": customer.id,
        "subscription": subscription.id,
        "subscription_details": {"items": [{"id": second.id, "quantity": 5}]},
    }
)
same(preview.object, "invoice")
same(
    client.subscription_items.update(
        second.id, {"quantity": 5, "proration_behavior": "always_invoice"}
    ).quantity,
    5,
)
client.subscriptions.update(subscription.id, {"metadata": {"seen": "yes"}})
schedule = client.subscription_schedules.create({"from_subscription": subscription.id})
same(client.subscription_schedules.retrieve(schedule.id).status, "active")
same(client.subscription_schedules.release(schedule.id).status, "released")
client.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
client.subscriptions.update(subscription.id, {"cancel_at_period_end": False})

# Hosted pages.
session = client.checkout.sessions.create(
    {
        "mode": "subscription",
        "line_items": [{"price": monthly.id, "quantity": 1}],
        "success_url": "https://example.test/done",
        "customer_email": "grace@example.test",
    }
)
same(len(client.checkout.sessions.line_items.list(session.id).data), 1)
same(client.checkout.sessions.retrieve(session.id).status, "open")
same(client.checkout.sessions.expire(session.id).status, "expired")
configuration = client.billing_portal.configurations.create(
    {
        "business_profile": {"headline": "Ours"},
        "features": {"invoice_history": {"enabled": True}},
    }
)
portal = client.billing_portal.sessions.create(
    {"customer": customer.id, "configuration": configuration.id}
)
assert portal.url.startswith(address)

# An invoice by hand, money back, and a dispute.
client.invoice_items.create(
    {"customer": customer.id, "amount": 700, "currency": "usd", "description": "Prints"}
)
drafted = client.invoices.create(
    {"customer": customer.id, "pending_invoice_items_behavior": "include"}
)
same(client.invoices.finalize_invoice(drafted.id).status, "open")
paid = client.invoices.pay(drafted.id, {"expand": ["payments"]})
same(paid.amount_paid, 700)
intent = client.payment_intents.retrieve(
    paid.payments.data[0].payment.payment_intent, {"expand": ["latest_charge"]}
)
same(intent.latest_charge.payment_method_details.card.brand, "visa")
refund = client.refunds.create({"payment_intent": intent.id, "amount": 200})
same(client.refunds.retrieve(refund.id).amount, 200)
same(client.charges.retrieve(intent.latest_charge.id).amount_refunded, 200)
same(len(client.invoice_payments.list({"invoice": paid.id}).data), 1)
voided = client.invoices.create({"customer": customer.id})
client.invoices.finalize_invoice(voided.id)
disputed = client.payment_methods.attach("pm_card_createDispute", {"customer": customer.id})
client.invoice_items.create({"customer": customer.id, "amount": 900, "currency": "usd"})
doubtful = client.invoices.create(
    {
        "customer": customer.id,
        "pending_invoice_items_behavior": "include",
        "default_payment_method": disputed.id,
    }
)
client.invoices.finalize_invoice(doubtful.id)
client.invoices.pay(doubtful.id)
(dispute,) = client.disputes.list().data
same(client.disputes.retrieve(dispute.id).status, "needs_response")

# A card that is refused says so.
try:
    client.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer.id})
    raise AssertionError("a card that is declined was attached")
except stripe.CardError as error:
    same(error.code, "card_declined")
try:
    client.customers.retrieve("cus_nobody")
    raise AssertionError("nobody was found")
except stripe.InvalidRequestError as error:
    same((error.http_status, error.code), (404, "resource_missing"))

# A trial on a clock of its own.
clock = client.test_helpers.test_clocks.create({"frozen_time": int(time())})
guest = client.customers.create({"email": "guest@example.test", "test_clock": clock.id})
trial = client.subscriptions.create(
    {
        "customer": guest.id,
        "items": [{"price": monthly.id}],
        "trial_period_days": 7,
        "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}},
    }
)
same(trial.status, "trialing")
client.test_helpers.test_clocks.advance(clock.id, {"frozen_time": int(time()) + 8 * 86400})
end = monotonic() + 10
while client.test_helpers.test_clocks.retrieve(clock.id).status != "ready":
    assert monotonic() < end, "the clock did not arrive"
    sleep(0.05)
same(client.subscriptions.retrieve(trial.id).status, "paused")

# The end.
same(client.subscriptions.cancel(subscription.id, {"invoice_now": True}).status, "canceled")
same(client.payment_methods.detach(card.id).customer, None)
same(client.customers.delete(guest.id).deleted, True)
listed = 0
for kind in ("customers", "products", "prices", "invoices", "charges", "subscription_schedules"):
    listed += len(getattr(client, kind).list({"limit": 100}).data)
listed += len(client.subscriptions.list({"status": "all", "customer": customer.id}).data)
assert listed > 15, listed

events = list(client.events.list({"limit": 100}).auto_paging_iter())
end = monotonic() + 20
while len(received) < len(events) and monotonic() < end:
    sleep(0.05)
verified = [
    stripe.Webhook.construct_event(body, signature, endpoint.secret)
    for body, signature in received
]
missing = {event.id for event in events} - {event.id for event in verified}
assert not missing, missing
kinds = {event.type for event in events}
for kind in ("invoice.paid", "customer.subscription.updated", "charge.refunded", "charge.dispute.created"):
    assert kind in kinds, kind
try:
    stripe.Webhook.construct_event(received[0][0] + b" ", received[0][1], endpoint.secret)
    raise AssertionError("a changed body was taken")
except stripe.SignatureVerificationError:
    pass
client.webhook_endpoints.delete(endpoint.id)
print(f"Python's SDK {stripe.VERSION}: a life lived, {len(verified)} webhooks verified")
