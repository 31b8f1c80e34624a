// App keeps notes in PostgreSQL and the number of page views in redis. GET / shows both, POST / adds a note, `app check` is
// the health check.
package main

import (
	"database/sql"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/gomodule/redigo/redis"
	_ "github.com/lib/pq"
)

const listen = ":8080"

type app struct {
	db    *sql.DB
	cache *redis.Pool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "check" {
		answer, err := http.Get("http://localhost" + listen + "/healthz")
		if err != nil || answer.StatusCode != http.StatusOK {
			log.Fatal("unhealthy: ", err)
		}
		return
	}
	password, err := os.ReadFile("/run/secrets/db_password")
	if err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("postgres", os.Getenv("DATABASE")+" password="+strings.TrimSpace(string(password)))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL)`); err != nil {
		log.Fatal(err)
	}
	a := app{db: db, cache: &redis.Pool{MaxIdle: 4, Dial: func() (redis.Conn, error) {
		return redis.Dial("tcp", os.Getenv("CACHE"))
	}}}
	http.HandleFunc("GET /healthz", a.healthy)
	http.HandleFunc("GET /{$}", a.show)
	http.HandleFunc("POST /{$}", a.add)
	log.Print("listening on ", listen)
	log.Fatal(http.ListenAndServe(listen, nil))
}

func (a app) healthy(w http.ResponseWriter, _ *http.Request) {
	if err := a.db.Ping(); err != nil {
		fail(w, err)
	}
}

func (a app) show(w http.ResponseWriter, r *http.Request) {
	conn := a.cache.Get()
	defer conn.Close()
	views, err := redis.Int(conn.Do("INCR", "views"))
	if err != nil {
		fail(w, err)
		return
	}
	rows, err := a.db.QueryContext(r.Context(), `SELECT text FROM notes ORDER BY id`)
	if err != nil {
		fail(w, err)
		return
	}
	defer rows.Close()
	fmt.Fprintf(w, "views: %d\n", views)
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			fail(w, err)
			return
		}
		fmt.Fprintf(w, "note: %s\n", text)
	}
	if err := rows.Err(); err != nil {
		log.Print(err)
	}
}

func (a app) add(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1000))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if _, err := a.db.ExecContext(r.Context(), `INSERT INTO notes (text) VALUES ($1)`, string(text)); err != nil {
		fail(w, err)
	}
}

func fail(w http.ResponseWriter, err error) {
	log.Print(err)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}
