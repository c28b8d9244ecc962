// Labels of endpoints: what a container is, in the words of the program that made it.
//
// K8S_POD_NAMESPACE=web. A key looks like a word; a value is any line of text.

export type Labels = Readonly<Record<string, string>>;

const KEY = /^[A-Za-z0-9](?:[A-Za-z0-9_./-]{0,126}[A-Za-z0-9])?$/;
/** Characters; Kubernetes' names have up to 253. */
const MAX_VALUE = 256;
/** Of one endpoint: its record stays small. */
export const MAX_LABELS = 64;

export const isLabelKey = (key: string): boolean => KEY.test(key);

/** One line of text that a terminal shows as it is. */
export const isLabelValue = (value: string): boolean =>
  value.length <= MAX_VALUE && !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(value);
