// Rolling is the program of the example: a web server that says which version it is, and takes a moment to be ready. `check`
// is its health check. It ends as a server should: it accepts nothing new and finishes what it has begun.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "check" {
		if err := check("http://localhost/healthz"); err != nil {
			log.Fatal(err)
		}
		return
	}
	if err := serve(os.Getenv("VERSION")); err != nil {
		log.Fatal(err)
	}
}

func serve(version string) error {
	began := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "version", version) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case version == "broken":
			http.Error(w, "this version doesn't find its database", http.StatusInternalServerError)
		case time.Since(began) < 300*time.Millisecond:
			http.Error(w, "warming up", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: ":80", Handler: mux}
	stopped := make(chan error, 1)
	go func() {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		<-asked
		stopped <- server.Shutdown(context.Background())
	}()
	log.Printf("version %s listens", version)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func check(url string) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return err
}
