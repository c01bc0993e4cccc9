// Goroutines on several threads, files, the collector, and a fault that the program recovers from.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

func main() {
	var group sync.WaitGroup
	values, done, sum := make(chan int, 4), make(chan bool), 0
	go func() {
		for value := range values {
			sum += value
		}
		done <- true
	}()
	for i := 0; i < 1000; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			values <- i
		}(i)
	}
	group.Wait()
	close(values)
	<-done
	fmt.Println("sum", sum, runtime.GOOS)
	if err := os.WriteFile("file", []byte("written by Go\n"), 0o644); err != nil {
		fmt.Println(err)
	}
	begun := time.Now()
	time.Sleep(20 * time.Millisecond)
	fmt.Println(time.Since(begun) >= 20*time.Millisecond)
	var kept [][]byte
	for i := 0; i < 200; i++ {
		kept = append(kept, make([]byte, 100000))
	}
	runtime.GC()
	fmt.Println(len(kept))
	defer func() { fmt.Println("recovered:", recover()) }()
	var nothing *int
	fmt.Println(*nothing)
}
