// Runs QEMU for test/machine/run: hands on the command's output, keeps time, and says how it ended.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const TIMED_OUT = 124;
const MACHINE_FAILED = 125;
const NOT_BOOTED = 123;
const KERNEL_COMPLAINED = 126;
// User space of an emulated machine is up in 5 to 30 s, and several may share two processors.
const BOOT_SECONDS = 300;
// After "stop" the machine has the command's last words and $SCANOUTD_OUT to send.
const STOP_SECONDS = 30;
const TAINT_OOPS = 1 << 7;
const TAINT_WARNING = 1 << 9;
const COMPLAINT =
  /^\[ *\d+\.\d+\].*(WARNING: |BUG: |Oops|Kernel panic|general protection fault|blocked for more than|detected stalls|UBSAN)/;

const { values, positionals } = parseArgs({
  options: {
    timeout: { type: 'string', default: '900' },
    idle: { type: 'string', default: '300' },
    logs: { type: 'string', default: '.' },
    'allow-warnings': { type: 'boolean', default: false },
  },
  allowPositionals: true,
});
const consoleLog = join(values.logs, 'console.log');
const [program = '', ...rest] = positionals;

// Ends of socket pairs: QEMU's descriptors 3 to 5 are the ports.
const ports = ['stdout', 'stderr', 'control'];
const portArguments = ports.flatMap((name, i) => [
  '-chardev',
  `socket,id=${name},fd=${i + 3}`,
  '-device',
  `virtserialport,chardev=${name},name=${name}`,
]);
// QEMU goes when this process goes, however it goes.
const qemu = spawn(
  'setpriv',
  ['--pdeathsig', 'KILL', program, ...rest, ...portArguments, '-serial', `file:${consoleLog}`],
  { stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'] },
);

const started = Date.now();
let ready = 0;
let lastOutput = 0;
let exitStatus;
let taint = 0;
let stopped = '';
let qemuSaid = '';

const say = (text) => process.stderr.write(`machine: ${text}\n`);
const seconds = (since) => ((Date.now() - since) / 1000).toFixed(1);

function stop(reason) {
  if (stopped) return;
  stopped = reason;
  say(`${reason}; stopping it`);
  qemu.stdio[5].write('stop\n');
  setTimeout(() => qemu.kill('SIGKILL'), STOP_SECONDS * 1000).unref();
}

for (const stream of [qemu.stdout, qemu.stderr]) {
  stream.on('data', (data) => {
    qemuSaid += data;
  });
}
const handOn = (from, to) =>
  from.on('data', (data) => {
    lastOutput = Date.now();
    to.write(data);
  });
handOn(qemu.stdio[3], process.stdout);
handOn(qemu.stdio[4], process.stderr);

let line = '';
qemu.stdio[5].on('data', (data) => {
  line += data;
  for (let end = line.indexOf('\n'); end >= 0; end = line.indexOf('\n')) {
    const [word, ...numbers] = line.slice(0, end).split(' ');
    line = line.slice(end + 1);
    if (word === 'ready') {
      ready = lastOutput = Date.now();
    } else if (word === 'exit') {
      [exitStatus = 0, taint = 0] = numbers.map(Number);
      qemu.kill('SIGKILL');
    }
  }
});
for (const port of qemu.stdio.slice(3)) port.on('error', () => {});

const clock = setInterval(() => {
  const now = Date.now();
  if (!ready && now - started > BOOT_SECONDS * 1000) qemu.kill('SIGKILL');
  if (!ready) return;
  if (now - ready > Number(values.timeout) * 1000) stop(`the command ran for more than ${values.timeout} s`);
  if (now - lastOutput > Number(values.idle) * 1000) stop(`the command printed nothing for ${values.idle} s`);
}, 100);

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    stopped = signal;
    qemu.kill('SIGKILL');
  });
}

qemu.on('error', (error) => {
  say(`cannot start QEMU: ${error.message}`);
  process.exitCode = MACHINE_FAILED;
});
qemu.on('close', () => {
  clearInterval(clock);
  const lines = readConsole();
  const complaints = lines.filter((text) => COMPLAINT.test(text));
  if (complaints.length > 0 || taint & (TAINT_OOPS | TAINT_WARNING)) {
    say(`the kernel complained: ${complaints.slice(0, 3).join(' | ') || `taint ${taint}`}`);
  }
  process.exitCode = verdict(lines, complaints);
  if (ready) say(`booted in ${((ready - started) / 1000).toFixed(1)} s, ran for ${seconds(ready)} s`);
});

function readConsole() {
  try {
    return readFileSync(consoleLog, 'utf8').split(/\r?\n/);
  } catch {
    return [];
  }
}

function tail(lines) {
  say('the end of its console:');
  for (const text of lines.slice(-40)) process.stderr.write(`  ${text}\n`);
}

function verdict(lines, complaints) {
  if (stopped.startsWith('SIG')) return 128 + (stopped === 'SIGINT' ? 2 : 15);
  if (stopped) {
    tail(lines);
    return TIMED_OUT;
  }
  if (exitStatus === undefined) {
    say(
      ready ? 'the machine died while the command ran' : `the machine did not boot in ${seconds(started)} s`,
    );
    if (qemuSaid) process.stderr.write(qemuSaid);
    tail(lines);
    return ready ? MACHINE_FAILED : NOT_BOOTED;
  }
  if (qemuSaid) say(`QEMU said: ${qemuSaid.trim()}`);
  const complained = complaints.length > 0 || (taint & (TAINT_OOPS | TAINT_WARNING)) !== 0;
  if (exitStatus === 0 && complained && !values['allow-warnings']) return KERNEL_COMPLAINED;
  return exitStatus;
}
