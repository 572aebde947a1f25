//! The built module under a host that is not Envoy: virtual time, real bytes, any chunking, any order.

mod site;

mod smoke;
