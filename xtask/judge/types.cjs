// Holds recorded calls of Stripe's API against the types of the official Node SDK, as the TypeScript compiler reads
// them: every answer has what its type requires, with null only where that allows it; every request has the parameters
// of its method alone, none that is deprecated, none missing, no value that an enum does not list.
//
//     node types.cjs <folder with node_modules> <record>...
//
// A record has a line of JSON per call: {method, path, query, body, status, answer}.

'use strict';

const fs = require('node:fs');
const path = require('node:path');

const [home, ...records] = process.argv.slice(2);
const ts = require(path.join(home, 'node_modules/typescript'));
const sdk = path.join(home, 'node_modules/stripe/cjs');

/** Every `.d.ts` of the SDK's resources. */
function resources(folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const name = path.join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === 'V2' ? [] : resources(name);
    return name.endsWith('.d.ts') ? [name] : [];
  });
}

const files = resources(path.join(sdk, 'resources'));
const program = ts.createProgram(files, {
  strict: true,
  noLib: false,
  skipLibCheck: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.CommonJS,
  types: [],
});
const checker = program.getTypeChecker();

/** What each method of a resource sends where, by the code that stands beside the types: `name` → [method, address]. */
function addresses(declarations) {
  const text = fs.readFileSync(declarations.replace(/\.d\.ts$/, '.js'), 'utf8');
  const source = ts.createSourceFile('resource.js', text, ts.ScriptTarget.ES2022, true);
  const found = new Map();
  const visit = (node, owner, method) => {
    if (ts.isClassDeclaration(node)) owner = node.name.text;
    if (ts.isMethodDeclaration(node)) method = node.name.text;
    if (
      ts.isCallExpression(node) &&
      ts.isPropertyAccessExpression(node.expression) &&
      node.expression.name.text === '_makeRequest'
    ) {
      const [verb, address] = node.arguments;
      const parts = ts.isTemplateExpression(address)
        ? [address.head.text, ...address.templateSpans.flatMap((span) => [null, span.literal.text])]
        : [address.text];
      found.set(`${owner}.${method}`, [verb.text, parts]);
    }
    ts.forEachChild(node, (child) => visit(child, owner, method));
  };
  visit(source);
  return found;
}

/** The type that a promise of an answer stands for. */
function promised(type) {
  const name = (type.aliasSymbol ?? type.symbol)?.name;
  if (name === 'ApiListPromise' || name === 'ApiSearchResultPromise') {
    return { rows: checker.getTypeArguments(type)[0] };
  }
  const response = checker.getTypeArguments(type)[0];
  return { one: response?.aliasTypeArguments?.[0] ?? response };
}

function routes() {
  const all = [];
  for (const file of files) {
    const calls = addresses(file);
    for (const statement of program.getSourceFile(file).statements) {
      if (!ts.isClassDeclaration(statement)) continue;
      for (const member of statement.members) {
        if (!ts.isMethodDeclaration(member)) continue;
        const call = calls.get(`${statement.name.text}.${member.name.getText()}`);
        if (!call) continue;
        const [verb, parts] = call;
        const pattern = parts.map((part) => (part === null ? '[^/]+' : part.replace(/\./g, '\\.'))).join('');
        const params = member.parameters.find((parameter) => parameter.name.getText() === 'params');
        const signature = checker.getSignatureFromDeclaration(member);
        all.push({
          verb,
          pattern: new RegExp(`^${pattern}$`),
          variables: parts.filter((part) => part === null).length,
          name: `${statement.name.text.replace(/Resource$/, '')}.${member.name.getText()}`,
          params: params && checker.getNonNullableType(checker.getTypeAtLocation(params)),
          required: params && !params.questionToken,
          ...promised(checker.getReturnTypeOfSignature(signature)),
        });
      }
    }
  }
  // What names a thing wins over what takes any: /v1/invoices/create_preview is no invoice's id.
  return all.sort((a, b) => a.variables - b.variables);
}

// What is found, by kind and place, so that a thousand calls with one fault are one line.
const findings = new Map();
function find(kind, place, what, example) {
  const key = `${kind}: ${place}: ${what}`;
  const known = findings.get(key) ?? { count: 0, example };
  known.count += 1;
  findings.set(key, known);
}

const is = (type, flag) => (type.flags & flag) !== 0;
/** What an object was before an event holds those fields alone that have changed, at every depth. */
const isPartial = (place) => place.includes('.previous_attributes');
const isNull = (type) => is(type, ts.TypeFlags.Null);
/** `OtherString`: what the SDK adds to each enum of strings, so that it takes those of later versions too. */
const isOther = (type) => is(type, ts.TypeFlags.Intersection);
const isText = (type) => is(type, ts.TypeFlags.String);
const isObject = (type) => is(type, ts.TypeFlags.Object);
const members = (type) => (type.isUnion() ? type.types : [type]);
const isDecimal = (type) => type.symbol?.name === 'DecimalImpl' || type.aliasSymbol?.name === 'Decimal' || type.symbol?.name === 'Decimal';

/** Faults of a value by a type: [[place, what], …]. */
function faults(value, type, place, sent) {
  const kinds = members(type);
  if (kinds.some((kind) => is(kind, ts.TypeFlags.Any | ts.TypeFlags.Unknown))) return [];
  if (value === null) {
    // What was not there before is shown as null.
    if (isPartial(place)) return [];
    return kinds.some(isNull) ? [] : [[place, 'is null, and its type does not allow that']];
  }
  if (Array.isArray(value)) {
    const lists = kinds.filter((kind) => checker.isArrayType(kind));
    if (lists.length === 0) return [[place, 'is a list, and its type is none']];
    const rows = checker.getTypeArguments(lists[0])[0];
    return value.flatMap((row) => faults(row, rows, `${place}[]`, sent));
  }
  if (typeof value === 'object') return best(value, kinds.filter(isObject), place, sent);
  return plain(value, kinds, place, sent);
}

/** Text, number or boolean; in a form all three are text. */
function plain(value, kinds, place, sent) {
  // In a form, nothing is how a value is unset.
  if (sent && value === '' && kinds.some(isNull)) return [];
  const texts = kinds.filter((kind) => kind.isStringLiteral());
  if (typeof value === 'string') {
    if (texts.some((kind) => kind.value === value)) return [];
    const isEnum = texts.some((kind) => kind.value !== '') && (kinds.some(isOther) || !kinds.some(isText));
    if (kinds.some(isText) && !isEnum) return [];
    if (kinds.some(isDecimal) && /^-?\d+(\.\d+)?$/.test(value)) return [];
    if (sent && /^-?\d+(\.\d+)?$/.test(value) && kinds.some((kind) => is(kind, ts.TypeFlags.Number))) return [];
    if (sent && /^(true|false)$/.test(value) && kinds.some((kind) => is(kind, ts.TypeFlags.BooleanLike))) return [];
    if (texts.length > 0) {
      return [[place, `is ${JSON.stringify(value)}, none of ${texts.map((kind) => kind.value).join(', ')}`]];
    }
  }
  if (typeof value === 'number' && kinds.some((kind) => is(kind, ts.TypeFlags.Number))) return [];
  if (typeof value === 'boolean' && kinds.some((kind) => is(kind, ts.TypeFlags.BooleanLike))) return [];
  if (kinds.some((kind) => kind.isNumberLiteral?.() && kind.value === value)) return [];
  const names = kinds.map((kind) => checker.typeToString(kind)).join(' | ');
  return [[place, `is ${sent ? 'sent as' : 'a'} ${sent ? JSON.stringify(value) : typeof value}, and its type is ${names.slice(0, 80)}`]];
}

/** Among several kinds of objects the one that fits best: literals such as `object` or `type` tell them apart. */
function best(value, kinds, place, sent) {
  // An object within another is named by itself: its faults are its own, wherever it stands.
  if (!sent && typeof value.object === 'string') place = named(value, place);
  const likely = kinds.filter((kind) =>
    kind.getProperties().every((property) => {
      const own = value[property.name];
      const type = checker.getTypeOfSymbol(property);
      return !type.isStringLiteral?.() || own === undefined || own === type.value;
    }),
  );
  const candidates = likely.length > 0 ? likely : kinds;
  let least;
  for (const kind of candidates) {
    const found = fields(value, kind, place, sent);
    if (least === undefined || found.length < least.length) least = found;
    if (found.length === 0) break;
  }
  return least ?? [[place, 'is an object, and its type is none']];
}

function fields(value, type, place, sent) {
  if (sent && checker.isArrayType(type)) return [[place, 'is an object, and its type is a list']];
  const found = [];
  const properties = checker.getPropertiesOfType(type);
  const known = new Set();
  for (const property of properties) {
    known.add(property.name);
    if (property.name === 'lastResponse') continue;
    const own = value[property.name];
    const at = `${place}.${property.name}`;
    // Of an invoice that is to come, as the event's documentation says against its type.
    if (own === undefined && property.name === 'id' && value.object === 'invoice' && value.status === 'draft') continue;
    if (own === undefined) {
      if (!isPartial(place) && !(property.flags & ts.SymbolFlags.Optional)) found.push([at, 'is missing']);
      continue;
    }
    if (sent && isDeprecated(property)) found.push([at, 'is deprecated']);
    found.push(...faults(own, checker.getTypeOfSymbol(property), at, sent));
  }
  const rows = checker.getIndexInfoOfType(type, ts.IndexKind.String);
  for (const [name, own] of Object.entries(value)) {
    if (known.has(name)) continue;
    // Every list may say how many it has in all: https://docs.stripe.com/api/pagination.
    if (value.object === 'list' && name === 'total_count') continue;
    if (rows) found.push(...faults(own, rows.type, `${place}.*`, sent));
    else found.push([`${place}.${name}`, 'is unknown']);
  }
  return found;
}

function isDeprecated(property) {
  const text = ts.displayPartsToString(property.getDocumentationComment(checker));
  return property.getJsDocTags(checker).some((tag) => tag.name === 'deprecated') || /^\W*deprecated\b/i.test(text);
}

/** A form as the value that was encoded: `a[b][0]=c`. */
function decoded(form) {
  const root = {};
  for (const [name, value] of new URLSearchParams(form)) {
    const keys = name.split('[').map((key) => key.replace(/\]$/, ''));
    let at = root;
    keys.forEach((key, depth) => {
      if (key === '') key = String(Object.keys(at).length);
      if (depth === keys.length - 1) at[key] = value;
      else at = at[key] ??= {};
    });
  }
  return lists(root);
}

function lists(value) {
  if (typeof value !== 'object') return value;
  const keys = Object.keys(value);
  const rows = keys.length > 0 && keys.every((key) => /^\d+$/.test(key));
  if (rows) return keys.map((key) => lists(value[key]));
  return Object.fromEntries(keys.map((key) => [key, lists(value[key])]));
}

const all = routes();
const seen = new Set();
let requests = 0;
let answers = 0;
for (const record of records) {
  for (const line of fs.readFileSync(record, 'utf8').split('\n')) {
    if (line === '') continue;
    const call = JSON.parse(line);
    // A call that the API refused is not held up as one that it takes.
    const isRefused = call.status !== null && call.status >= 400 && call.status !== 402 && call.status < 500;
    const route = all.find((one) => one.verb === call.method && one.pattern.test(call.path));
    const example = `${call.method} ${call.path}?${call.query} ${call.body}`.slice(0, 300);
    if (!route) {
      if (!isRefused) find('request', `${call.method} ${call.path}`, 'no method of the SDK sends this', example);
      continue;
    }
    const form = call.method === 'POST' ? call.body : call.query;
    if (!isRefused && !seen.has(`${route.name} ${form}`)) {
      seen.add(`${route.name} ${form}`);
      requests += 1;
      const sent = decoded(form);
      if (route.params) {
        for (const [place, what] of best(sent, members(route.params).filter(isObject), route.name, true)) {
          find('request', place, what, example);
        }
      } else if (form !== '') find('request', route.name, 'takes no parameters', example);
    }
    if (call.status !== 200) continue;
    answers += 1;
    const found = route.rows
      ? [
          ...['object', 'data', 'has_more', 'url']
            .filter((name) => call.answer[name] === undefined)
            .map((name) => [`${route.name}.${name}`, 'is missing']),
          ...call.answer.data.flatMap((row) => faults(row, route.rows, named(row, route.name), false)),
        ]
      : faults(call.answer, route.one, named(call.answer, route.name), false);
    for (const [place, what] of found) find('answer', place, what, example);
  }
}

function named(value, otherwise) {
  return value?.object ? `${value.object}${value.deleted ? ' (deleted)' : ''}` : otherwise;
}

for (const [text, { count, example }] of [...findings].sort()) {
  console.error(`${text} (${count} times, as in ${example})`);
}
console.log(`Node's types: ${requests} different requests and ${answers} answers, ${findings.size} findings`);
if (requests === 0 || answers === 0) {
  console.error('nothing was recorded');
  process.exit(1);
}
process.exit(findings.size === 0 ? 0 : 1);
