// A life of a paying customer, by the official Node SDK against the double, as `life.py` lives one by Python's.
//
//     node life.cjs <folder with node_modules> <address> <key>

'use strict';

const assert = require('node:assert/strict');
const http = require('node:http');
const path = require('node:path');

const [home, address, key] = process.argv.slice(2);
const Stripe = require(path.join(home, 'node_modules/stripe'));
const { hostname, port } = new URL(address);
const stripe = new Stripe(key, {
  host: hostname,
  port: Number(port),
  protocol: 'http',
  maxNetworkRetries: 0,
  telemetry: false,
});

const DAY = 86_400;
const now = () => Math.floor(Date.now() / 1000);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, good) {
  for (const end = Date.now() + 20_000; !(await good()); await pause(50)) {
    assert.ok(Date.now() < end, what);
  }
}

/** Takes webhooks, and keeps what arrived. */
function receive() {
  const received = [];
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      received.push([Buffer.concat(parts), request.headers['stripe-signature']]);
      response.end();
    });
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ server, received }));
  });
}

async function live() {
  const { server, received } = await receive();
  let earlier = 0;
  for await (const _ of stripe.events.list({ limit: 100 })) earlier += 1;
  const endpoint = await stripe.webhookEndpoints.create({
    url: `http://127.0.0.1:${server.address().port}/hook`,
    enabled_events: ['*'],
  });

  // What is sold.
  const product = await stripe.products.create({ name: 'Studio', metadata: { plan: 'studio' } });
  await stripe.products.update(product.id, { description: 'For studios' });
  assert.equal((await stripe.products.retrieve(product.id)).description, 'For studios');
  const price = (unit_amount, interval) =>
    stripe.prices.create({ product: product.id, currency: 'usd', unit_amount, recurring: { interval } });
  const monthly = await price(9900, 'month');
  const better = await price(19900, 'month');
  assert.equal((await stripe.prices.list({ product: product.id })).data.length, 2);
  assert.equal((await stripe.prices.update(monthly.id, { nickname: 'Monthly' })).nickname, 'Monthly');

  // Who buys it, with credit.
  const customer = await stripe.customers.create({
    email: 'ada@example.test',
    name: 'Ada',
    address: { line1: 'Main Street 1', city: 'London', country: 'GB', postal_code: 'N1' },
    preferred_locales: ['en'],
  });
  await stripe.customers.createBalanceTransaction(customer.id, { amount: -1000, currency: 'usd' });
  assert.equal((await stripe.customers.listBalanceTransactions(customer.id)).data.length, 1);
  const card = await stripe.paymentMethods.create({ type: 'card', card: { token: 'tok_visa' } });
  await stripe.paymentMethods.attach(card.id, { customer: customer.id });
  await stripe.customers.update(customer.id, { invoice_settings: { default_payment_method: card.id } });
  assert.equal((await stripe.customers.listPaymentMethods(customer.id)).data.length, 1);
  const setup = await stripe.setupIntents.create({ customer: customer.id, payment_method: card.id, confirm: true, return_url: 'https://example.test' });
  assert.equal(setup.status, 'succeeded');

  // A subscription, changed, and changed for later.
  const subscription = await stripe.subscriptions.create(
    { customer: customer.id, items: [{ price: monthly.id, metadata: { seats: '1' } }], description: 'Studio' },
    { idempotencyKey: 'node-subscribes' },
  );
  assert.equal(subscription.status, 'active');
  const again = await stripe.subscriptions.create(
    { customer: customer.id, items: [{ price: monthly.id, metadata: { seats: '1' } }], description: 'Studio' },
    { idempotencyKey: 'node-subscribes' },
  );
  assert.equal(again.id, subscription.id);
  const [item] = subscription.items.data;
  const preview = await stripe.invoices.createPreview({
    subscription: subscription.id,
    subscription_details: {
      items: [{ id: item.id, price: better.id }],
      proration_behavior: 'always_invoice',
      proration_date: now(),
    },
  });
  assert.ok(preview.amount_due > 9000, String(preview.amount_due));
  const changed = await stripe.subscriptions.update(subscription.id, {
    items: [{ id: item.id, price: better.id }],
    proration_behavior: 'always_invoice',
    payment_behavior: 'pending_if_incomplete',
    expand: ['latest_invoice.payments'],
  });
  assert.equal(changed.latest_invoice.status, 'paid');
  const added = await stripe.subscriptionItems.create({ subscription: subscription.id, price: monthly.id, quantity: 2 });
  assert.equal((await stripe.subscriptionItems.retrieve(added.id)).quantity, 2);
  await stripe.subscriptionItems.del(added.id, { proration_behavior: 'none' });
  const schedule = await stripe.subscriptionSchedules.create({ from_subscription: subscription.id });
  const [phase] = schedule.phases;
  const planned = await stripe.subscriptionSchedules.update(schedule.id, {
    end_behavior: 'release',
    phases: [
      { start_date: phase.start_date, end_date: phase.end_date, items: [{ price: better.id, quantity: 1 }] },
      { items: [{ price: monthly.id, quantity: 1 }], duration: { interval: 'month', interval_count: 1 } },
    ],
  });
  assert.equal(planned.phases.length, 2);
  await stripe.subscriptionSchedules.release(schedule.id);
  await stripe.subscriptions.update(subscription.id, { pause_collection: { behavior: 'keep_as_draft' } });
  await stripe.subscriptions.update(subscription.id, { pause_collection: '' });
  assert.equal((await stripe.subscriptions.update(subscription.id, { cancel_at: now() + 10 * DAY })).cancel_at_period_end, false);
  await stripe.subscriptions.update(subscription.id, { cancel_at: '' });

  // Hosted pages.
  const session = await stripe.checkout.sessions.create({
    mode: 'subscription',
    customer: customer.id,
    line_items: [{ price: monthly.id, quantity: 1 }],
    subscription_data: { metadata: { from: 'checkout' } },
    success_url: 'https://example.test/done',
    cancel_url: 'https://example.test/back',
  });
  assert.equal((await stripe.checkout.sessions.list({ customer: customer.id })).data.length, 1);
  await stripe.checkout.sessions.expire(session.id);
  const configuration = await stripe.billingPortal.configurations.create({
    features: {
      customer_update: { enabled: true, allowed_updates: ['email'] },
      payment_method_update: { enabled: true },
      subscription_cancel: { enabled: true, mode: 'at_period_end' },
    },
    default_return_url: 'https://example.test',
  });
  await stripe.billingPortal.configurations.update(configuration.id, { metadata: { ours: 'yes' } });
  const portal = await stripe.billingPortal.sessions.create({ customer: customer.id, configuration: configuration.id, return_url: 'https://example.test' });
  assert.ok(portal.url.startsWith(address));

  // Invoices: paid out of band, void, uncollectible; money back.
  await stripe.invoiceItems.create({ customer: customer.id, amount: 1200, currency: 'usd', description: 'Prints' });
  const sent = await stripe.invoices.create({
    customer: customer.id,
    collection_method: 'send_invoice',
    days_until_due: 14,
    pending_invoice_items_behavior: 'include',
  });
  await stripe.invoices.finalizeInvoice(sent.id);
  assert.equal((await stripe.invoices.sendInvoice(sent.id)).status, 'open');
  assert.equal((await stripe.invoices.pay(sent.id, { paid_out_of_band: true })).status, 'paid');
  assert.equal((await stripe.invoices.listLineItems(sent.id)).data.length, 1);
  const paid = (await stripe.invoices.list({ subscription: subscription.id, status: 'paid' })).data.find((one) => one.amount_paid > 0);
  const [payment] = (await stripe.invoicePayments.list({ invoice: paid.id })).data;
  const refund = await stripe.refunds.create({ payment_intent: payment.payment.payment_intent, reason: 'requested_by_customer' });
  assert.equal(refund.status, 'succeeded');
  const charge = await stripe.charges.retrieve(refund.charge, { expand: ['customer'] });
  assert.equal(charge.refunded, true);
  assert.equal(charge.customer.id, customer.id);

  // A renewal that fails, on a clock of its own, and one whose card's holder must confirm.
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: now(), name: 'renewals' });
  const late = await stripe.customers.create({ email: 'late@example.test', test_clock: clock.id });
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: late.id });
  const trial = await stripe.subscriptions.create({
    customer: late.id,
    items: [{ price: monthly.id }],
    trial_end: now() + 7 * DAY,
    default_payment_method: failing.id,
  });
  await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: now() + 8 * DAY });
  await until('the clock arrives', async () => (await stripe.testHelpers.testClocks.retrieve(clock.id)).status === 'ready');
  const overdue = await stripe.subscriptions.retrieve(trial.id, { expand: ['latest_invoice'] });
  assert.equal(overdue.status, 'past_due');
  assert.ok(overdue.latest_invoice.attempt_count >= 1);
  await stripe.invoices.markUncollectible(overdue.latest_invoice.id);
  await assert.rejects(
    stripe.paymentMethods.attach('pm_card_chargeDeclined', { customer: late.id }),
    (error) => error instanceof Stripe.errors.StripeCardError && error.code === 'card_declined',
  );
  const careful = await stripe.customers.create({ email: 'careful@example.test' });
  const secure = await stripe.paymentMethods.attach('pm_card_authenticationRequired', { customer: careful.id });
  const waiting = await stripe.subscriptions.create({
    customer: careful.id,
    items: [{ price: monthly.id }],
    default_payment_method: secure.id,
    payment_behavior: 'allow_incomplete',
    expand: ['latest_invoice.payments.data.payment.payment_intent'],
  });
  assert.equal(waiting.status, 'incomplete');
  const [asked] = waiting.latest_invoice.payments.data;
  assert.equal(asked.payment.payment_intent.status, 'requires_action');
  const { next_action } = await stripe.paymentIntents.retrieve(asked.payment.payment_intent.id);
  assert.ok(['redirect_to_url', 'use_stripe_sdk'].includes(next_action.type), next_action.type);

  // The end.
  assert.equal((await stripe.subscriptions.cancel(subscription.id, { prorate: true })).status, 'canceled');
  assert.equal((await stripe.customers.del(late.id)).deleted, true);
  assert.equal((await stripe.customers.retrieve(late.id)).deleted, true);
  for await (const one of stripe.setupIntents.list({ customer: customer.id })) assert.equal(one.object, 'setup_intent');

  const listed = [];
  for await (const event of stripe.events.list({ limit: 100, created: { gte: 1 } })) listed.push(event.id);
  // Every event that is listed is delivered, but for what came about before the endpoint did.
  await until('every webhook arrives', () => received.length >= listed.length - earlier);
  const verified = received.map(([body, signature]) => stripe.webhooks.constructEvent(body, signature, endpoint.secret));
  const kinds = new Set(verified.map((event) => event.type));
  for (const kind of ['invoice.payment_failed', 'invoice.payment_action_required', 'customer.subscription.deleted', 'charge.refunded']) {
    assert.ok(kinds.has(kind), kind);
  }
  assert.throws(
    () => stripe.webhooks.constructEvent(Buffer.concat([received[0][0], Buffer.from(' ')]), received[0][1], endpoint.secret),
    Stripe.errors.StripeSignatureVerificationError,
  );
  assert.equal((await stripe.webhookEndpoints.del(endpoint.id)).deleted, true);
  server.close();
  console.log(`Node's SDK ${Stripe.PACKAGE_VERSION ?? ''}: a life lived, ${verified.length} webhooks verified`);
}

live().catch((error) => {
  console.error(error);
  process.exit(1);
});
