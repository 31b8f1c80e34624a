// Load asks a server for a page, over and over, from several clients at once, and counts every request that failed. It ends at
// the first interrupt after which enough requests were made, and prints a report as JSON.
//
// With -keepalive each client keeps its connection. A request on a kept connection that the server closed before the first
// byte of an answer is sent again on a new one, as HTTP allows for GET (RFC 9110, 9.2.2) and every browser does: it is counted
// as retried, not as failed. Without -keepalive every request has a connection of its own and one try.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stack-run/stack/e2e/load/report"
)

func main() {
	url := flag.String("url", "", "what to ask for")
	clients := flag.Int("clients", 4, "how many at once")
	least := flag.Int64("least", 20000, "requests to make at least")
	keepAlive := flag.Bool("keepalive", false, "keep connections")
	flag.Parse()
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt)

	l := &load{url: *url, report: report.Report{Errors: map[string]int{}, Answers: map[string]int{}}, last: time.Now()}
	began := time.Now()
	var stop atomic.Bool
	var made atomic.Int64
	var group sync.WaitGroup
	for range *clients {
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: !*keepAlive, MaxIdleConnsPerHost: 1}}
		group.Go(func() {
			for !stop.Load() || made.Load() < *least {
				l.ask(client)
				if made.Add(1) == 100 {
					fmt.Fprintln(os.Stderr, "under way")
				}
			}
		})
	}
	<-interrupt
	stop.Store(true)
	group.Wait()
	l.report.Seconds = time.Since(began).Seconds()
	if err := json.NewEncoder(os.Stdout).Encode(l.report); err != nil {
		log.Fatal(err)
	}
}

type load struct {
	url    string
	mu     sync.Mutex
	report report.Report
	last   time.Time // of an answer
}

func (l *load) ask(client *http.Client) {
	connections := 0
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections++ }}
	began := time.Now()
	answer, err := get(httptrace.WithClientTrace(context.Background(), trace), client, l.url)
	end := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Requests++
	if connections > 1 {
		l.report.Retried++
	}
	l.report.Longest = max(l.report.Longest, end.Sub(began).Seconds()*1000)
	if err != nil {
		l.report.Failed++
		l.report.Errors[err.Error()]++
		return
	}
	l.report.Answers[answer]++
	l.report.Silence = max(l.report.Silence, end.Sub(l.last).Seconds()*1000)
	l.last = end
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", answer.Status)
	}
	return strings.TrimSpace(string(body)), err
}
