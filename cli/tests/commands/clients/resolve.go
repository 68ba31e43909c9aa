// Resolves each name that it is given by Go's own resolver, and a port of the first one: what it finds, sorted.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
	"time"
)

func main() {
	context, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	resolver := &net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		addresses, err := resolver.LookupHost(context, name)
		var none *net.DNSError
		if errors.As(err, &none) && none.IsNotFound {
			addresses = []string{"none"}
		} else {
			check(err)
		}
		sort.Strings(addresses)
		fmt.Printf("%s: %s\n", name, strings.Join(addresses, " "))
	}
	_, ports, err := resolver.LookupSRV(context, "http", "tcp", os.Args[1])
	check(err)
	for _, port := range ports {
		fmt.Printf("%s:%d\n", port.Target, port.Port)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
