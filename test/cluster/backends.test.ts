// The table of backends on an underlay of both families.
import { backendSuite } from './backend-suite.js';

backendSuite({ ipv4: true });
