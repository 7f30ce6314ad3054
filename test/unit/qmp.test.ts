/** QEMU's machine protocol, with monitors that behave in many ways. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openQemuDisplay, QmpError } from '../../src/guests/qmp.js';

const directory = mkdtempSync(join(tmpdir(), 'qmp-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const GREETING = '{"QMP": {"version": {"qemu": {"major": 10}}, "capabilities": []}}\r\n';
let made = 0;

/** A monitor that says `greeting` and answers each command as told. */
async function monitor(
  greeting: string,
  answer: (command: string, socket: Socket, args: Record<string, unknown>) => void,
): Promise<{ path: string; commands: string[]; server: Server }> {
  const path = join(directory, `${made++}`);
  const commands: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(greeting);
    socket.on('data', (data) => {
      for (const line of data.toString().split('\r\n').slice(0, -1)) {
        const { execute, arguments: args } = JSON.parse(line) as {
          execute: string;
          arguments: Record<string, unknown>;
        };
        commands.push(execute);
        answer(execute, socket, args);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { path, commands, server };
}

const good = (_: string, socket: Socket) => {
  socket.write('{"timestamp": {}, "event": "RESUME"}\r\n{"return": {}}\r\n');
};

test('a socket is handed to the display, and the monitor is free again', async () => {
  let said: Record<string, unknown> = {};
  const { path, commands, server } = await monitor(GREETING, (command, socket, args) => {
    if (command === 'add_client') said = args;
    good(command, socket);
  });
  const { socket, pid } = await openQemuDisplay(path);
  assert.equal(socket.closed, false);
  assert.equal(pid, process.pid);
  assert.deepEqual(commands, ['qmp_capabilities', 'getfd', 'add_client']);
  assert.equal(said.protocol, '@dbus-display');
  socket.close();
  // Not before every connection is closed.
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

const BAD: { what: string; greeting: string; answer?: typeof good; says: RegExp }[] = [
  { what: 'is none', greeting: 'SSH-2.0-OpenSSH\r\n', says: /no QMP/ },
  { what: 'greets otherwise', greeting: '{"hello": 1}\r\n', says: /this is no QMP monitor/ },
  { what: 'says a line without end', greeting: 'x'.repeat(100_000), says: /a line that does not end/ },
  {
    what: 'has no such display',
    greeting: GREETING,
    answer: (command, socket) => {
      if (command === 'add_client')
        socket.write('{"error": {"class": "GenericError", "desc": "no D-Bus"}}\r\n');
      else good(command, socket);
    },
    says: /add_client: no D-Bus/,
  },
  {
    what: 'goes away',
    greeting: GREETING,
    answer: (_, socket) => void socket.destroy(),
    says: /QEMU closed the connection|ECONNRESET/,
  },
];

for (const { what, greeting, answer, says } of BAD) {
  test(`a monitor that ${what}`, async () => {
    const { path, server } = await monitor(greeting, answer ?? good);
    await assert.rejects(openQemuDisplay(path), (error: Error) => {
      assert.match(error.message, says);
      return true;
    });
    server.close();
  });
}

test('a monitor that says nothing: another program has it', async () => {
  const { path, server } = await monitor('', good);
  await assert.rejects(openQemuDisplay(path), (error: Error) => {
    assert.ok(error instanceof QmpError);
    assert.match(error.message, /another program has the monitor/);
    return true;
  });
  server.close();
});

test('no monitor at all', async () => {
  await assert.rejects(openQemuDisplay(join(directory, 'none')), { code: 'ENOENT' });
});
