/** What objects have: properties, signals, descriptions of themselves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import {
  type CallInfo,
  DBusError,
  type InterfaceDescription,
  type ReceivedSignal,
} from '../../src/native/bus.js';
import { connectPair, OBJECT } from './bus-pair.js';
import { until } from './sockets.js';

const PROPERTIES = { path: OBJECT.path, interface: 'org.freedesktop.DBus.Properties' } as const;

function withObject(description: InterfaceDescription) {
  return connectPair((served) => served.addInterface(OBJECT.path, OBJECT.interface, description));
}

const isError = (dbusName: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof DBusError, `${error}`);
  assert.equal(error.dbusName, dbusName);
  assert.match(error.message, message);
  return true;
};

test('properties are read, written and told of', async () => {
  const state = { level: 1, secret: 'a' };
  let setter: CallInfo | undefined;
  const pair = await withObject({
    properties: {
      Level: {
        signature: 'u',
        emits: 'change',
        get: () => state.level,
        set: async (value, caller) => {
          await setTimeout(5);
          if ((value as number) > 9) throw new DBusError('org.scanoutd1.Error.TooHigh', 'nine at most');
          state.level = value as number;
          setter = caller;
        },
      },
      Secret: { signature: 's', emits: 'invalidates', get: () => state.secret },
      Fixed: { signature: 's', emits: 'const', get: () => 'f' },
      Quiet: { signature: 's', get: () => 'q' },
    },
  });
  const call = (member: string, signature: string, ...body: unknown[]) =>
    pair.client.call({ ...PROPERTIES, member, signature, body });
  const get = (name: string) => call('Get', 'ss', OBJECT.interface, name);
  const set = (name: string, signature: string, value: unknown) =>
    call('Set', 'ssv', OBJECT.interface, name, { signature, value });

  assert.deepEqual(await get('Level'), [{ signature: 'u', value: 1 }]);
  assert.deepEqual(await set('Level', 'u', 5), []);
  assert.equal(state.level, 5);
  assert.deepEqual([setter?.pid, setter?.path], [process.pid, OBJECT.path]);
  await assert.rejects(set('Level', 'u', 10), isError('org.scanoutd1.Error.TooHigh', /nine/));
  const invalid = 'org.freedesktop.DBus.Error.InvalidArgs';
  await assert.rejects(set('Level', 's', 'x'), isError(invalid, /expected 'u'/));
  const readOnly = 'org.freedesktop.DBus.Error.PropertyReadOnly';
  await assert.rejects(set('Fixed', 's', 'x'), isError(readOnly, /Fixed/));
  await assert.rejects(set('None', 's', 'x'), isError('org.freedesktop.DBus.Error.UnknownProperty', /None/));
  assert.equal(state.level, 5);
  const [all] = await call('GetAll', 's', OBJECT.interface);
  assert.deepEqual(Object.keys(all as object).sort(), ['Fixed', 'Level', 'Quiet', 'Secret']);

  const told: ReceivedSignal[] = [];
  pair.client.subscribe({ interface: PROPERTIES.interface, path: OBJECT.path }, (signal) =>
    told.push(signal),
  );
  pair.served.emitPropertiesChanged(OBJECT.path, OBJECT.interface, 'Level', 'Secret');
  pair.served.emitPropertiesChanged(OBJECT.path, OBJECT.interface);
  await until('the signal', () => told.length > 0);
  await setTimeout(10);
  assert.equal(told.length, 1);
  assert.equal(told[0]?.member, 'PropertiesChanged');
  assert.deepEqual(told[0]?.body, [OBJECT.interface, { Level: { signature: 'u', value: 5 } }, ['Secret']]);
  for (const name of ['Fixed', 'Quiet', 'None']) {
    assert.throws(() => pair.served.emitPropertiesChanged(OBJECT.path, OBJECT.interface, name), {
      name: 'TypeError',
      message: new RegExp(name),
    });
  }
  assert.throws(() => pair.served.emitPropertiesChanged('/none', OBJECT.interface, 'Level'), TypeError);
  pair.close();
});

test('a getter that fails is the error of who reads, or of who tells', async () => {
  const pair = await withObject({
    properties: {
      Broken: {
        signature: 's',
        emits: 'change',
        get: () => {
          throw new DBusError('org.scanoutd1.Error.Broken', 'out of order');
        },
      },
      Mistyped: { signature: 's', emits: 'change', get: () => 7 },
    },
  });
  const get = (name: string) =>
    pair.client.call({ ...PROPERTIES, member: 'Get', signature: 'ss', body: [OBJECT.interface, name] });
  await assert.rejects(get('Broken'), isError('org.scanoutd1.Error.Broken', /out of order/));
  await assert.rejects(get('Mistyped'), isError('org.freedesktop.DBus.Error.Failed', /Mistyped: string/));
  assert.throws(
    () => pair.served.emitPropertiesChanged(OBJECT.path, OBJECT.interface, 'Broken'),
    /out of order/,
  );
  pair.close();
});

test('signals come to those who asked, until they leave', async () => {
  const pair = await withObject({ signals: { Changed: { signature: 'su', names: ['what', 'count'] } } });
  const [all, some]: [ReceivedSignal[], ReceivedSignal[]] = [[], []];
  pair.client.subscribe({ interface: OBJECT.interface }, (signal) => all.push(signal));
  const subscription = pair.client.subscribe(
    { member: 'Changed', arg0: "it's".slice(0, 2), path: OBJECT.path },
    (signal) => some.push(signal),
  );
  await subscription.installed;
  const emit = (what: string) => pair.served.emitSignal({ ...OBJECT, member: 'Changed', body: [what, 1] });
  emit('it');
  emit('other');
  await until('signals', () => all.length === 2);
  assert.deepEqual(all[0], { ...OBJECT, sender: null, member: 'Changed', signature: 'su', body: ['it', 1] });
  assert.deepEqual(some, [all[0]]);
  subscription.remove();
  subscription.remove();
  emit('it');
  pair.served.emitSignal({ ...OBJECT, path: '/other/path', member: 'Free', signature: 'b', body: [true] });
  await until('signals', () => all.length === 4);
  assert.equal(some.length, 1);
  assert.deepEqual(all[3]?.body, [true]);
  assert.throws(() => emit(5 as unknown as string), /body\[0\]: string expected/);
  assert.throws(() => pair.client.subscribe({ member: "x' " }, () => {}), TypeError);
  pair.close();
});

test('objects are listed and come and go', async () => {
  const pair = await withObject({});
  const { served, client } = pair;
  served.addObjectManager('/org/scanoutd');
  const seen: ReceivedSignal[] = [];
  client.subscribe({ interface: 'org.freedesktop.DBus.ObjectManager' }, (signal) => seen.push(signal));
  const item: InterfaceDescription = { properties: { Name: { signature: 's', get: () => 'n' } } };
  const slot = served.addInterface('/org/scanoutd/items/a', 'org.scanoutd.Item', item);
  served.emitInterfacesAdded('/org/scanoutd/items/a', 'org.scanoutd.Item');
  const manager = { path: '/org/scanoutd', interface: 'org.freedesktop.DBus.ObjectManager' };
  const [objects] = (await client.call({ ...manager, member: 'GetManagedObjects' })) as [
    Record<string, object>,
  ];
  assert.deepEqual(Object.keys(objects).sort(), ['/org/scanoutd/items/a', OBJECT.path]);
  const properties = { 'org.scanoutd.Item': { Name: { signature: 's', value: 'n' } } };
  const listed = objects['/org/scanoutd/items/a'] as Record<string, unknown>;
  assert.deepEqual(listed['org.scanoutd.Item'], properties['org.scanoutd.Item']);
  served.emitInterfacesRemoved('/org/scanoutd/items/a', 'org.scanoutd.Item');
  slot.remove();
  await until('both', () => seen.length === 2);
  assert.deepEqual(seen[0]?.body, ['/org/scanoutd/items/a', properties]);
  assert.deepEqual(seen[1]?.body, ['/org/scanoutd/items/a', ['org.scanoutd.Item']]);
  assert.throws(() => served.emitInterfacesAdded('/elsewhere', 'org.scanoutd.Item'), { code: 'ESRCH' });
  pair.close();
});

test('introspection tells what was described', async () => {
  const pair = await withObject({
    methods: {
      Do: { in: 'sa{sv}', inNames: ['what', 'options'], out: 'h', outNames: ['fd'], handler: () => {} },
      Old: { deprecated: true, handler: () => {} },
    },
    properties: {
      A: { signature: 'as', emits: 'const', get: () => [] },
      B: { signature: 'u', get: () => 0, set: () => {} },
    },
    signals: { Gone: { signature: 'u', names: ['why'] } },
  });
  const introspectable = { path: OBJECT.path, interface: 'org.freedesktop.DBus.Introspectable' };
  const [xml] = (await pair.client.call({ ...introspectable, member: 'Introspect' })) as [string];
  const mine = xml.slice(xml.indexOf(`<interface name="${OBJECT.interface}">`)).replace(/\s*\n\s*/g, '');
  assert.equal(
    mine.slice(0, mine.indexOf('</interface>')),
    `<interface name="${OBJECT.interface}"><method name="Do"><arg type="s" name="what" direction="in"/>` +
      '<arg type="a{sv}" name="options" direction="in"/><arg type="h" name="fd" direction="out"/></method>' +
      '<method name="Old"><annotation name="org.freedesktop.DBus.Deprecated" value="true"/></method>' +
      '<property name="A" type="as" access="read">' +
      '<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/></property>' +
      '<property name="B" type="u" access="readwrite">' +
      '<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/></property>' +
      '<signal name="Gone"><arg type="u" name="why"/></signal>',
  );
  pair.close();
});

test('descriptions that cannot be are refused, and leave nothing behind', async () => {
  const pair = await withObject({});
  const method = (description: object) => ({ methods: { M: { handler: () => {}, ...description } } });
  const property = (description: object) => ({
    properties: { P: { signature: 's', get: () => '', ...description } },
  });
  const wrong: [string, InterfaceDescription, RegExp][] = [
    ['org.x.A', method({ in: 'z' }), /org\.x\.A\.M: 'z' is no signature/],
    ['org.x.A', method({ in: 'ss', inNames: ['one'] }), /1 names for the 2 types of 'ss'/],
    ['org.x.A', method({ in: 's', inNames: ['two words'] }), /'two words' is no name/],
    ['org.x.A', method({ in: 's', inNames: ['a'], out: 's' }), /names for all arguments or for none/],
    ['org.x.A', { methods: { 'no-name': { handler: () => {} } } }, /no-name: no member name/],
    ['org.x.A', property({ signature: 'ss' }), /one complete type expected/],
    ['org.x.A', property({ signature: 'ah' }), /descriptors/],
    ['org.x.A', property({ emits: 'const', set: () => {} }), /constant cannot be writable/],
    ['org.x.A', property({ emits: 'sometimes' }), /emits: 'change'/],
    ['org', method({}), /'org' is no interface name/],
  ];
  for (const [name, description, message] of wrong) {
    assert.throws(() => pair.served.addInterface('/x', name, description), { name: 'TypeError', message });
  }
  assert.throws(() => pair.served.addInterface('x', 'org.x.A', method({})), /no object path/);
  assert.throws(() => pair.served.addInterface('/x', 'org.freedesktop.DBus.Properties', method({})), {
    code: 'EINVAL',
  });
  assert.throws(() => pair.served.addInterface(OBJECT.path, OBJECT.interface, {}), { code: 'EEXIST' });
  pair.served.addInterface('/x', 'org.x.A', method({})).remove();
  pair.served.addInterface('/x', 'org.x.A', method({ out: 's', handler: () => ['second'] }));
  assert.deepEqual(await pair.client.call({ path: '/x', interface: 'org.x.A', member: 'M' }), ['second']);
  pair.close();
});

test('an interface removed while it is in use answers what waits, and no more', async () => {
  let finish: (results: string[]) => void = () => {};
  const pair = await connectPair((served) => {
    const slot = served.addInterface(OBJECT.path, OBJECT.interface, {
      methods: {
        Wait: { out: 's', handler: () => new Promise<string[]>((resolve) => (finish = resolve)) },
        Remove: {
          out: 's',
          handler: () => {
            slot.remove(); // in its own handler
            return ['too late'];
          },
        },
      },
    });
  });
  const waiting = pair.client.call({ ...OBJECT, member: 'Wait' });
  const gone = 'org.freedesktop.DBus.Error.UnknownObject';
  const removing = pair.client.call({ ...OBJECT, member: 'Remove' });
  await Promise.all([
    assert.rejects(waiting, isError(gone, /has gone from/)),
    assert.rejects(removing, isError(gone, /has gone from/)),
  ]);
  finish(['nobody waits']);
  await assert.rejects(pair.client.call({ ...OBJECT, member: 'Wait' }), DBusError);
  pair.close();
});
