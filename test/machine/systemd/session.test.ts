/** In a session of logind's on a VT of its own: another VT, another display server there, and back. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { configOf, fourOutputs, OtherMaster, Scene } from '../inside/away.js';
import { TestDaemon } from '../inside/daemon.js';
import type { VkmsDevice } from '../inside/vkms.js';

const UNIT = 'scanoutd-session';
const [OURS, THEIRS] = [7, 8];
let card: VkmsDevice;
before(() => {
  card = fourOutputs();
});
after(() => card.destroy());

const run = (...command: [string, ...string[]]) => execFileSync(command[0], command.slice(1));

test('under logind: another VT, another display server there, and back', async () => {
  run('udevadm', 'settle');
  run('chvt', String(OURS));
  // What a login does: PAM makes a session of it, on the VT that the terminal is.
  const properties = ['PAMName=login', `TTYPath=/dev/tty${OURS}`, `WorkingDirectory=${process.cwd()}`];
  const through = ['systemd-run', '--quiet', '--pipe', '--wait', '--collect', `--unit=${UNIT}`];
  const daemon = await TestDaemon.start({
    config: configOf(card),
    through: [...through, ...properties.flatMap((one) => ['--property', one])],
  });
  try {
    await daemon.during(async () => {
      const { session, cards } = await daemon.status();
      assert.match(session.reason, /^session c?\d+$/);
      assert.deepEqual([session.kind, session.seat], ['logind', 'seat0']);
      assert.deepEqual(cards[0]?.master, { source: 'logind', detail: 'seat0' });
      const scene = new Scene(daemon, card);
      await scene.begin();
      run('chvt', String(THEIRS));
      await daemon.until('paused', (status) => status.cards[0]?.paused === true);
      const other = await OtherMaster.open(card.card);
      other.showEverywhere();
      await scene.away(/the session is not active/);
      other.close();
      run('chvt', String(OURS));
      await scene.back();
      await scene.end();
    });
  } finally {
    run('systemctl', 'stop', UNIT);
  }
});
