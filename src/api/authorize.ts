/**
 * Who may change what over the system bus, where the bus daemon lets everybody ask: root and the group scanoutd may, all others if
 * polkit says so, and without polkit they may not. On the daemon's own socket its mode and group have decided already.
 */
import { systemAccounts } from '../config/accounts.js';
import type { AccountLookup } from '../config/config.js';
import {
  type Bus,
  type BusValue,
  type CallInfo,
  DBusError,
  type MethodDescription,
  variant,
} from '../native/bus.js';
import type { Logger } from '../service/log.js';

const TRUSTED_GROUP = 'scanoutd';
const AUTHORITY = {
  destination: 'org.freedesktop.PolicyKit1',
  path: '/org/freedesktop/PolicyKit1/Authority',
  interface: 'org.freedesktop.PolicyKit1.Authority',
} as const;
const ALLOW_USER_INTERACTION = 1;
const ACCESS_DENIED = 'org.freedesktop.DBus.Error.AccessDenied';
const INTERACTION_REQUIRED = 'org.freedesktop.DBus.Error.InteractiveAuthorizationRequired';

/**
 * The action of polkit that each method of the manager is (systemd/org.scanoutd1.policy). Null: everybody may, as it only looks, or
 * touches nothing but what the caller has. A method that is not here is for root and the group.
 */
export const ACTIONS: Readonly<Record<string, string | null>> = {
  Describe: null,
  Records: null,
  ReleaseLease: null,
  UnwatchInput: null,
  Assign: 'org.scanoutd1.manage',
  Unassign: 'org.scanoutd1.manage',
  AttachQemu: 'org.scanoutd1.manage',
  SwitchSeat: 'org.scanoutd1.manage',
  AttachDevice: 'org.scanoutd1.manage',
  DetachDevice: 'org.scanoutd1.manage',
  LockSeat: 'org.scanoutd1.manage',
  UnlockSeat: 'org.scanoutd1.manage',
  WatchInput: 'org.scanoutd1.watch-input',
  RevokeLease: 'org.scanoutd1.manage',
  TransferLease: 'org.scanoutd1.manage',
  Screenshot: 'org.scanoutd1.screenshot',
  TakeLease: 'org.scanoutd1.take-lease',
};

export type Methods = Readonly<Record<string, MethodDescription>>;

export class Authorizer {
  /** Number of the group; undefined before it was looked up, null where there is none. */
  private group: number | null | undefined;

  constructor(
    private readonly bus: Pick<Bus, 'call'>,
    private readonly log: Pick<Logger, 'info'>,
    private readonly groups: Pick<AccountLookup, 'group'> = systemAccounts,
  ) {}

  private isTrusted({ uid, gid, groups }: CallInfo): boolean {
    if (uid === 0) return true;
    // Once: looking for a group that is not there starts a program.
    if (this.group === undefined) this.group = this.groups.group(TRUSTED_GROUP);
    return this.group !== null && (gid === this.group || groups.includes(this.group));
  }

  /** The methods, each for those who may. */
  guard(methods: Methods): Methods {
    return Object.fromEntries(
      Object.entries(methods).map(([name, method]) => [name, this.guarded(name, method)]),
    );
  }

  private guarded(name: string, method: MethodDescription): MethodDescription {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
    if (action === null) return method;
    return {
      ...method,
      handler: async (args, caller) => {
        await this.require(caller, action, detailsOf(method, args));
        return method.handler(args, caller);
      },
    };
  }

  /** Rejects with a DBusError unless the caller may. */
  private async require(
    caller: CallInfo,
    action: string | undefined,
    details: Record<string, string>,
  ): Promise<void> {
    if (this.isTrusted(caller)) return;
    const refusal =
      action === undefined
        ? new DBusError(ACCESS_DENIED, `access denied: this is for root and the group ${TRUSTED_GROUP}`)
        : await this.ask(caller, action, details);
    if (refusal === null) return;
    const { pid, uid } = caller;
    this.log.info({ pid, uid, action, ...details, reason: refusal.message }, 'refused');
    throw refusal;
  }

  /** What polkit has against it, or why it cannot be asked; null: nothing. */
  private async ask(
    { sender, interactive }: CallInfo,
    action: string,
    details: Record<string, string>,
  ): Promise<DBusError | null> {
    const subject = ['system-bus-name', { name: variant('s', sender ?? '') }];
    const flags = interactive ? ALLOW_USER_INTERACTION : 0;
    // A dialogue takes as long as its user does.
    const patience = interactive ? { timeoutMs: Number.POSITIVE_INFINITY } : {};
    try {
      const [result] = await this.bus.call({
        ...AUTHORITY,
        member: 'CheckAuthorization',
        signature: '(sa{sv})sa{ss}us',
        body: [subject, action, details, flags, ''],
        ...patience,
      });
      const [authorized, challenge] = result as [boolean, boolean, unknown];
      if (authorized) return null;
      if (challenge)
        return new DBusError(INTERACTION_REQUIRED, `access denied: ${action} needs authentication`);
      return new DBusError(ACCESS_DENIED, `access denied: polkit does not allow ${action}`);
    } catch (error) {
      const why = `polkit cannot be asked: ${(error as Error).message}`;
      return new DBusError(
        ACCESS_DENIED,
        `access denied: ${why}; root and the group ${TRUSTED_GROUP} need none`,
      );
    }
  }
}

/** What a rule can tell calls by: the first argument under its name, such as `lease`. */
function detailsOf({ inNames = [] }: MethodDescription, args: readonly BusValue[]): Record<string, string> {
  const [name] = inNames;
  const [value] = args;
  return name !== undefined && typeof value === 'string' ? { [name]: value } : {};
}
