/** A service manager's socket that is one, and descriptors that are passed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, before, beforeEach, test } from 'node:test';
import { Fd } from '../../src/native/base.js';
import {
  isBooted,
  notify,
  notifyReady,
  notifyReloading,
  notifyStatus,
  notifyStopping,
  notifyWatchdog,
  removeStoredFds,
  storeFds,
  watchdogUsec,
} from '../../src/native/systemd.js';
import { socketPath, until } from './sockets.js';

interface Notification {
  state: string;
  fds: string[];
}

/** Node has no datagram sockets of the unix kind. */
const RECEIVER = `import array, json, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
print('ready', flush=True)
while True:
  data, control, flags, _ = s.recvmsg(65536, 4096)
  fds = array.array('i')
  for _, _, part in control: fds.frombytes(part)
  print(json.dumps({'state': data.decode(), 'fds': [os.readlink(f'/proc/self/fd/{fd}') for fd in fds]}), flush=True)
  for fd in fds: os.close(fd)`;

const path = socketPath();
const received: Notification[] = [];
let receiver: ChildProcess;

before(async () => {
  receiver = spawn('python3', ['-c', RECEIVER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: receiver.stdout as NonNullable<ChildProcess['stdout']> });
  await once(lines, 'line');
  lines.on('line', (line) => received.push(JSON.parse(line) as Notification));
});
after(() => receiver.kill());
beforeEach(() => {
  process.env.NOTIFY_SOCKET = path;
  received.length = 0;
});

async function next(): Promise<Notification> {
  await until('a notification', () => received.length > 0);
  return received.shift() as Notification;
}

test('states arrive as they were sent', async () => {
  assert.equal(notify('READY=1\nSTATUS=2 outputs lit'), true);
  assert.deepEqual(await next(), { state: 'READY=1\nSTATUS=2 outputs lit', fds: [] });
  const cases: [() => boolean, RegExp][] = [
    [() => notifyReady(), /^READY=1$/],
    [() => notifyReady('lit'), /^READY=1\nSTATUS=lit$/],
    [() => notifyStatus('one\n  READY=0\r\nline'), /^STATUS=one READY=0 line$/],
    [() => notifyStopping(), /^STOPPING=1$/],
    [() => notifyStopping(19), /^STOPPING=1\nERRNO=19$/],
    [() => notifyWatchdog(), /^WATCHDOG=1$/],
    [() => removeStoredFds('card:0'.replace(':', '-')), /^FDSTOREREMOVE=1\nFDNAME=card-0$/],
  ];
  for (const [send, state] of cases) {
    assert.equal(send(), true);
    assert.match((await next()).state, state);
  }
});

test('a reload says when it began', async () => {
  const before = process.hrtime.bigint() / 1000n;
  notifyReloading();
  const found = (await next()).state.match(/^RELOADING=1\nMONOTONIC_USEC=(\d+)$/);
  const usec = BigInt(found?.[1] ?? 0);
  assert.ok(usec >= before && usec <= process.hrtime.bigint() / 1000n);
});

test('descriptors are left in the store, by name, and kept here', async () => {
  const files = ['a', 'b'].map((name) => {
    const file = `${path}-${name}`;
    writeFileSync(file, name);
    return { file, fd: new Fd(openSync(file, 'r')) };
  });
  const fds = files.map(({ fd }) => fd);
  assert.equal(storeFds('card-0', fds), true);
  const paths = files.map(({ file }) => file);
  assert.deepEqual(await next(), { state: 'FDSTORE=1\nFDNAME=card-0', fds: paths });
  storeFds('card-0', fds.slice(1), { poll: false });
  assert.deepEqual(await next(), { state: 'FDSTORE=1\nFDNAME=card-0\nFDPOLL=0', fds: paths.slice(1) });
  assert.ok(fds.every(({ closed }) => !closed));
  for (const name of ['', 'a:b', 'a\nREADY=1', 'ü', 'x'.repeat(256), ' x']) {
    assert.throws(() => storeFds(name, fds), TypeError);
    assert.throws(() => removeStoredFds(name), TypeError);
  }
  assert.throws(() => storeFds('none', []), TypeError);
  for (const fd of fds) fd.close();
  assert.throws(() => storeFds('closed', fds), /fds\[0\]: Fd is closed/);
});

test('without a service manager nothing is sent, with an unreachable one it is told', () => {
  delete process.env.NOTIFY_SOCKET;
  assert.equal(notifyReady(), false);
  process.env.NOTIFY_SOCKET = socketPath();
  assert.throws(() => notifyReady(), { code: 'ENOENT', op: 'sd_notify' });
  assert.throws(() => notify(''), TypeError);
});

test('the watchdog is ours when it names this process, or none', () => {
  const { env } = process;
  delete env.WATCHDOG_PID;
  delete env.WATCHDOG_USEC;
  assert.equal(watchdogUsec(), 0);
  env.WATCHDOG_USEC = '3000000';
  assert.equal(watchdogUsec(), 3_000_000);
  env.WATCHDOG_PID = `${process.pid}`;
  assert.equal(watchdogUsec(), 3_000_000);
  env.WATCHDOG_PID = `${process.pid + 1}`;
  assert.equal(watchdogUsec(), 0);
  env.WATCHDOG_USEC = 'soon';
  env.WATCHDOG_PID = `${process.pid}`;
  assert.throws(() => watchdogUsec(), { code: 'EINVAL' });
  delete env.WATCHDOG_PID;
  delete env.WATCHDOG_USEC;
});

test('passed descriptors come by name, once, and no child inherits them', async () => {
  const script = `import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
f = open(sys.argv[1] + '.file', 'w')
a, b = os.dup(s.fileno()), os.dup(f.fileno())
os.dup2(a, 3); os.dup2(b, 4)
os.environ.update(LISTEN_FDS='2', LISTEN_FDNAMES='bus:card-0', LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])`;
  const code = `import { readFileSync, readlinkSync } from 'node:fs';
    import { takePassedFds } from '${new URL('../../src/native/systemd.js', import.meta.url).href}';
    const found = takePassedFds();
    const flags = (fd) => parseInt(readFileSync('/proc/self/fdinfo/' + fd.number, 'utf8').match(/flags:\\s+(\\d+)/)[1], 8);
    console.log(JSON.stringify({
      names: found.map(({ name }) => name),
      links: found.map(({ fd }) => readlinkSync('/proc/self/fd/' + fd.number).replace(/\\d+/g, 'N').replace(/.*\\//, '')),
      closed: found.map(({ fd }) => (flags(fd) & 0o2000000) !== 0),
      again: takePassedFds().length,
      env: Object.keys(process.env).filter((name) => name.startsWith('LISTEN_')),
    }));`;
  const child = spawn(
    'python3',
    ['-c', script, socketPath(), process.execPath, '--input-type=module', '-e', code],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  await once(child, 'close');
  const result = JSON.parse(output) as Record<string, unknown>;
  assert.match((result.links as string[]).join(), /^socket:\[N\],sN\.file$/);
  assert.deepEqual(
    { ...result, links: null },
    { names: ['bus', 'card-0'], links: null, closed: [true, true], again: 0, env: [] },
  );
});

test('whether systemd runs the system', () => {
  assert.equal(isBooted(), existsSync('/run/systemd/system'));
});
