// Attachments of `weft pipework`: container interfaces on links of the host.
export { AttachmentState } from './attachment-state.js';
export { Attachments } from './attachments.js';
export { parsePipeworkAttach, parsePipeworkDetach, attachmentMessage } from './messages.js';
