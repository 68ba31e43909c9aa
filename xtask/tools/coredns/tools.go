//go:build tools

// Package tools pins what is built of CoreDNS.
package tools

import (
	_ "github.com/coredns/coredns"
)
