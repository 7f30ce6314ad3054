/** Leases by what they are asked for. */
import type { LeaseConfig } from '../config/config.js';
import { LeaseError } from './errors.js';

export class LeaseNames {
  constructor(readonly all: readonly LeaseConfig[]) {}

  /** By its name, or by the connector of one that has no other. */
  find(asked: string): LeaseConfig | null {
    const isAlone = ({ outputs }: LeaseConfig) => outputs.length === 1 && outputs[0] === asked;
    return this.all.find(({ name }) => name === asked) ?? this.all.find(isAlone) ?? null;
  }

  /** Throws a LeaseError. */
  get(asked: string): LeaseConfig {
    const found = this.find(asked);
    if (found === null) throw this.unknown(asked);
    return found;
  }

  unknown(asked: string): LeaseError {
    const known = this.all.map(({ name }) => name).join(', ');
    return new LeaseError('NotFound', `there is no lease ${asked}; configured are: ${known || 'none'}`);
  }
}
