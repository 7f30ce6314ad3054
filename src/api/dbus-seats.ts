/** Seats on one connection of the bus: who watches a seat's events watches until its own connection ends. */
import type { Bus, BusValue, CallInfo, InterfaceDescription } from '../native/bus.js';
import { ApiError } from './errors.js';
import type { Manager } from './manager.js';

/** Sends a signal to one caller; null: between peers. */
export type TellCaller = (sender: string | null, member: string, body: BusValue[]) => void;

const SIGNALS = {
  InputEvents: { signature: 'ss', names: ['seat', 'json'] },
} as const;

interface Watch {
  sender: string | null;
  end(): void;
}

export class BusSeats {
  private watch: Watch | null = null;
  private closed = false;

  constructor(
    private readonly manager: Manager,
    private readonly bus: Bus,
    private readonly tell: TellCaller,
  ) {
    void bus.closed.then(() => {
      this.closed = true;
      this.unwatch();
    });
  }

  /** Methods and signals of the manager's interface. `answer` names the errors. */
  describe(
    answer: (body: () => Promise<BusValue[]>) => Promise<BusValue[]>,
  ): Required<Pick<InterfaceDescription, 'methods' | 'signals'>> {
    const { manager } = this;
    const done = (body: () => Promise<void>) =>
      answer(async () => {
        await body();
        return [];
      });
    const seat = { in: 's', inNames: ['seat'] };
    return {
      methods: {
        SwitchSeat: {
          in: 'ss',
          inNames: ['seat', 'guest'],
          handler: ([name, guest], caller) =>
            done(() => manager.switchSeat(caller, name as string, guest as string)),
        },
        AttachDevice: {
          in: 'ss',
          inNames: ['device', 'seat'],
          handler: ([device, name], caller) =>
            done(() => manager.attachDevice(caller, device as string, name as string)),
        },
        DetachDevice: {
          in: 's',
          inNames: ['device'],
          handler: ([device], caller) => done(() => manager.detachDevice(caller, device as string)),
        },
        LockSeat: {
          ...seat,
          handler: ([name], caller) => done(() => manager.lockSeat(caller, name as string, true)),
        },
        UnlockSeat: {
          ...seat,
          handler: ([name], caller) => done(() => manager.lockSeat(caller, name as string, false)),
        },
        WatchInput: {
          in: 'sb',
          inNames: ['seat', 'keys'],
          handler: ([name, keys], caller) => done(() => this.begin(caller, name as string, keys as boolean)),
        },
        UnwatchInput: {
          handler: (_, { sender }) =>
            done(async () => {
              if (this.watch?.sender !== sender) throw new ApiError('NotFound', 'the caller watches nothing');
              this.unwatch();
            }),
        },
      },
      signals: SIGNALS,
    };
  }

  private async begin(caller: CallInfo, seat: string, keys: boolean): Promise<void> {
    const { sender } = caller;
    const end = await this.manager.watchInput(caller, seat, keys, (events) =>
      this.tell(sender, 'InputEvents', [seat, JSON.stringify(events)]),
    );
    this.unwatch(); // of a seat that is gone
    const owner =
      sender === null
        ? null
        : this.bus.watchName(sender, (name) => {
            if (name === null && this.watch?.sender === sender) this.unwatch();
          });
    this.watch = {
      sender,
      end: () => {
        owner?.remove();
        end();
      },
    };
    if (this.closed) this.unwatch();
  }

  private unwatch(): void {
    const { watch } = this;
    this.watch = null;
    watch?.end();
  }
}
