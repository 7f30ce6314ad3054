/** How often CRTCs were switched off, of whatever card, counted by a probe in the kernel (Documentation/trace/kprobetrace.rst). */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const TRACEFS = '/sys/kernel/tracing';
const NAME = 'scanoutd_switch_offs';
/** Every driver with vblanks calls it before a CRTC stops. */
const FUNCTION = 'drm_crtc_vblank_off';

export class SwitchOffs {
  private constructor() {}

  static start(): SwitchOffs {
    if (readdirSync(TRACEFS).length === 0) execFileSync('mount', ['-t', 'tracefs', 'none', TRACEFS]);
    writeFileSync(join(TRACEFS, 'kprobe_events'), `p:${NAME} ${FUNCTION}\n`, { flag: 'a' });
    enable(true);
    return new SwitchOffs();
  }

  /** Since the start. */
  get count(): number {
    const line = readFileSync(join(TRACEFS, 'kprobe_profile'), 'utf8')
      .split('\n')
      .find((one) => one.trim().startsWith(NAME));
    if (line === undefined) throw new Error('the probe is not there any more');
    return Number(line.trim().split(/\s+/)[1]);
  }

  stop(): void {
    enable(false);
    writeFileSync(join(TRACEFS, 'kprobe_events'), `-:${NAME}\n`, { flag: 'a' });
  }
}

function enable(on: boolean): void {
  writeFileSync(join(TRACEFS, 'events', 'kprobes', NAME, 'enable'), on ? '1' : '0');
}
