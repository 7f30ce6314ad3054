/** A lease that cannot be; the text says why. */
export class LeaseError extends Error {
  /** `passing`: what is in the way may pass by itself, so that one may wait for it. */
  constructor(
    readonly kind: 'NotFound' | 'NotAllowed' | 'Busy' | 'Unavailable',
    message: string,
    readonly passing = false,
  ) {
    super(message);
  }
}
