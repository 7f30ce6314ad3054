/** Errors of the control API. */

/** A request that is refused. `kind` becomes the last part of the D-Bus error's name. */
export class ApiError extends Error {
  constructor(
    readonly kind: 'InvalidArgument' | 'NotFound' | 'NotAllowed' | 'Busy' | 'Unavailable' | 'Failed',
    message: string,
  ) {
    super(message);
  }
}
