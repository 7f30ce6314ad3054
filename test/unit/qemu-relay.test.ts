/** D-Bus through the input thread: what JavaScript and the other end say to each other comes through as if nothing were in between. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { openSync, readSync } from 'node:fs';
import { createServer } from 'node:net';
import { after, test } from 'node:test';
import { connectBus, connectPeer, pathOf } from '../../src/guests/qemu-connection.js';
import { Fd, isSystemError } from '../../src/native/base.js';
import { Bus, BusServer } from '../../src/native/bus.js';
import { InputEngine } from '../../src/native/input.js';
import { connectStream } from '../../src/native/streams.js';
import { noBusDaemon as skip, startBusDaemon } from './bus-daemon.js';
import { OBJECT } from './bus-pair.js';
import { socketPath, until } from './sockets.js';

const engine = new InputEngine({ priority: 0, onNotice: () => {} });
after(() => engine.shut());

/** Something that is called, with descriptors both ways, and tells of a change. */
function serve(bus: Bus, level: () => number): void {
  bus.addInterface(OBJECT.path, OBJECT.interface, {
    methods: {
      Echo: { in: 's', out: 's', handler: ([text]) => [text] },
      Read: {
        in: 'h',
        out: 's',
        handler: ([fd]) => {
          const text = Buffer.alloc(4096);
          return [text.toString('utf8', 0, readSync((fd as Fd).number, text, 0, text.length, 0))];
        },
      },
      Open: { out: 'h', handler: () => [new Fd(openSync('/proc/self/comm', 'r'))] },
    },
    properties: { Level: { signature: 'u', emits: 'change', get: level } },
  });
}

const call = (member: string, signature = '', body: readonly unknown[] = [], destination?: string) => ({
  ...OBJECT,
  ...(destination === undefined ? {} : { destination }),
  member,
  signature,
  body,
});

async function provesBus(bus: Bus, destination?: string): Promise<void> {
  assert.deepEqual(await bus.call(call('Echo', 's', ['hello'], destination)), ['hello']);
  const long = 'x'.repeat(50_000);
  assert.deepEqual(await bus.call(call('Echo', 's', [long], destination)), [long]);
  const many = await Promise.all(
    Array.from({ length: 50 }, (_, i) => bus.call(call('Echo', 's', [`${i}`], destination))),
  );
  assert.deepEqual(
    many.flat(),
    many.map((_, i) => `${i}`),
  );
  const comm = new Fd(openSync('/proc/self/comm', 'r'));
  const [read] = await bus.call(call('Read', 'h', [comm], destination));
  comm.close();
  assert.match(read as string, /node/);
  const [opened] = await bus.call(call('Open', '', [], destination));
  assert.ok(readSync((opened as Fd).number, Buffer.alloc(64)) > 0);
  (opened as Fd).close();
}

test('a peer is called through the input thread, and tells of changes', async () => {
  const path = socketPath();
  let served: Bus | null = null;
  let level = 1;
  const server = BusServer.listen(path, {
    onConnection: (bus) => {
      served = bus;
      serve(bus, () => level);
    },
  });
  const { bus, relay } = await connectPeer(connectStream(path), engine);
  assert.ok(relay !== null);
  await provesBus(bus);
  const seen: unknown[] = [];
  bus.subscribe({ path: OBJECT.path, member: 'PropertiesChanged' }, ({ body }) => seen.push(body[1]));
  level = 2;
  (served as Bus | null)?.emitPropertiesChanged(OBJECT.path, OBJECT.interface, 'Level');
  await until('the change', () => seen.length > 0);
  assert.deepEqual(seen, [{ Level: { signature: 'u', value: 2 } }]);

  // More than a message of the daemon's may have is the end of it.
  const tooLong = bus.call(call('Echo', 's', ['x'.repeat(100_000)]));
  await assert.rejects(tooLong);
  assert.ok((await bus.closed) instanceof Error);
  await (served as Bus | null)?.closed;
  server.close();
});

test('either end that closes closes the other', async () => {
  for (const ours of [true, false]) {
    const path = socketPath();
    let served: Bus | null = null;
    const server = BusServer.listen(path, {
      onConnection: (bus) => {
        served = bus;
      },
    });
    const { bus } = await connectPeer(connectStream(path), engine);
    await until('the connection', () => served !== null);
    const other = served as unknown as Bus;
    (ours ? bus : other).close();
    await bus.closed;
    await other.closed;
    assert.ok(!bus.isOpen && !other.isOpen);
    server.close();
  }
});

test('there is no input thread: QEMU is called all the same', async () => {
  const path = socketPath();
  const server = BusServer.listen(path, { onConnection: (bus) => serve(bus, () => 1) });
  const { bus, relay } = await connectPeer(connectStream(path), null);
  assert.equal(relay, null);
  await provesBus(bus);
  bus.close();
  server.close();
});

test('a bus is joined through the input thread', { skip }, async () => {
  const { address, child } = await startBusDaemon();
  const owner = await Bus.open(address, { daemon: true });
  serve(owner, () => 1);
  await owner.requestName('org.qemu');
  const { bus, relay, destination } = await connectBus(address, engine);
  assert.ok(relay !== null);
  assert.equal(destination, 'org.qemu');
  assert.match(bus.uniqueName ?? '', /^:/);
  await provesBus(bus, 'org.qemu');
  bus.close();
  await bus.closed;
  owner.close();
  child.kill();
});

test('paths of addresses', () => {
  assert.equal(pathOf('unix:path=/run/vm/bus'), '/run/vm/bus');
  assert.equal(pathOf('unix:path=/run/a%20b,guid=0123'), '/run/a b');
  assert.equal(pathOf('unix:guid=0123,path=/run/bus'), '/run/bus');
  for (const other of [
    'unix:abstract=x',
    'tcp:host=a,port=1',
    'system',
    'unix:path=/a;unix:path=/b',
    'unix:path=%',
  ])
    assert.equal(pathOf(other), null, other);
});

test('a sink whose relay has ended is refused, and nothing of it stays', async () => {
  const path = socketPath();
  const server = createServer((socket) => socket.destroy()).listen(path);
  await once(server, 'listening');
  const { id, socket } = await engine.relayQemu(await connectStream(path));
  await until('the relay has ended', () => isAtEnd(socket));
  const guest = await engine.addGuest();
  await assert.rejects(engine.addQemu(guest, id, { console: 0, destination: null }), isSystemError);
  // Ids are counted: the sink's is the next one after its guest's.
  assert.throws(() => engine.stats(guest + 1), /there is no/);
  socket.close();
  await engine.closeQemuRelay(id);
  await engine.removeGuest(guest);
  server.close();
});

function isAtEnd(socket: Fd): boolean {
  try {
    return readSync(socket.number, Buffer.alloc(1)) === 0;
  } catch {
    return false; // EAGAIN
  }
}
