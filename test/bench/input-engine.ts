/**
 * scanoutd's input thread, with a seat, a pointer and a guest for each device: `input-engine PRIORITY DEVICE...`. Says "ready";
 * ends with its standard input.
 */
import { openSync } from 'node:fs';
import { Fd } from '../../src/native/base.js';
import { describeDevice, InputEngine } from '../../src/native/input.js';

const [priority = '0', ...devices] = process.argv.slice(2);
const engine = new InputEngine({
  priority: Number(priority),
  onNotice: (notice) => {
    if (notice.type === 'dropped') return; // counted by the stamps
    throw new Error(`unexpected: ${JSON.stringify(notice)}`);
  },
});

for (const [i, path] of devices.entries()) {
  const fd = new Fd(openSync(path, 'r+'));
  const description = describeDevice(fd);
  const { id } = engine.open({ fd, path, class: 'pointer', read: 'raw', grab: true, libinput: {} });
  const [seat, guest] = [await engine.addSeat(), await engine.addGuest()];
  await engine.addUinput(guest, 'pointer', {
    ...description,
    name: `scanoutd ${i}`,
    phys: `scanoutd/bench${i}`,
  });
  await engine.setSeat(seat, {
    devices: [{ id, output: null }],
    guest,
    switches: 0,
    pointer: 'seat',
    outputs: [{ width: 1920, height: 1080 }],
    places: [{ guest, output: 0, x: 0, y: 0, width: 1920, height: 1080 }],
    hotkeys: [{ held: [[29], [97]], key: 59, id: 1, guest }],
    carryLocks: true,
  });
}
if (engine.realtimeReason !== '') process.stdout.write(`realtime ${engine.realtimeReason}\n`);
process.stdout.write('ready\n');
process.stdin.resume().once('end', () => {
  engine.shut();
  process.exit(0);
});
