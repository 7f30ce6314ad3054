/** What is seen of a seat's input by whoever may: `scanoutctl input watch`. */
import type { InputEventDocument } from '../api/documents.js';
import type { InputEngine } from '../native/input.js';

export class InputWatch {
  constructor(
    private readonly engine: Pick<InputEngine, 'watch' | 'watched'>,
    readonly seat: string,
    id: number,
    keys: boolean,
  ) {
    engine.watch(id, keys);
  }

  end(): void {
    this.engine.watch(null);
  }

  /** Events since the last call, oldest first. */
  take(nodeOf: (device: number) => string, guestOf: (guest: number) => string | null): InputEventDocument[] {
    return this.engine.watched().map(({ timeNs, device, guest, class: of, type, code, value }) => ({
      timeUs: timeNs / 1000,
      device: nodeOf(device),
      guest: guest === null ? null : guestOf(guest),
      class: of,
      type,
      code: code < 0 ? null : code,
      value,
    }));
  }
}
