// Marks and name prefixes by which weft recognises its kernel objects.

/**
 * What marks an object as weft's in the kernel: the link group (IFLA_GROUP), the route protocol (rtm_protocol), the
 * neighbour protocol (NDA_PROTOCOL) and the address protocol (IFA_PROTO) all carry this number, ASCII "w".
 * Free in iproute2's rt_protos and rt_addrprotos.
 */
export const WEFT_MARK = 119;

/** Prefix of all of weft's links. */
export const LINK_PREFIX = 'wf';

/** Prefix of a container's end that waits on the node to be moved inside; it is created and deleted with its other end. */
export const TRANSIT_PREFIX = 'wfin';
/**
 * Prefix of a bridge that has a host NIC as a port. The addresses on it are the host's, not weft's: they moved there from the
 * NIC, and move back when it is released.
 */
export const LAN_PREFIX = 'wfp-';

export const isLanBridge = (link: string): boolean => link.startsWith(LAN_PREFIX);

/** IFNAMSIZ less the terminating zero (include/uapi/linux/if.h). */
export const MAX_LINK_NAME = 15;

/**
 * Whether weft gives a link this name: what the kernel allows (net/core/dev.c, dev_valid_name), in printable ASCII and without
 * %, which the kernel takes for a number to fill in.
 */
export const isLinkName = (text: string): boolean =>
  text.length <= MAX_LINK_NAME && /^[\x21-\x7e]+$/.test(text) && !/[/:%]/.test(text) && !/^\.\.?$/.test(text);
